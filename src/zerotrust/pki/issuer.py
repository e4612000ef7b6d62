"""Issuer of certificates for agents and servers, whose private keys it never sees."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ObjectIdentifier

from zerotrust.errors import PkiError
from zerotrust.pki import csr, keys, profile
from zerotrust.pki.identity import AGENT_URN, check_id, serial_of


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A new certificate.

    `chain_pem` has the certificate first, then those between it and the root, without the root:
    what its owner sends in a handshake.
    """

    chain_pem: bytes
    serial: str
    not_after: datetime.datetime


@dataclass(frozen=True, kw_only=True)
class ServerNames:
    """The addresses in a server's certificate: those that agents dial."""

    dns: Sequence[str] = ()
    ip: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """An authority's certificate and key, in memory. The key can admit agents.

    `above` has the certificates between it and the root, without the root.
    """

    certificate: x509.Certificate
    key: keys.Key = field(repr=False)
    above: tuple[x509.Certificate, ...] = ()

    @property
    def not_after(self) -> datetime.datetime:
        """End of the issuing certificate, and so of all that it has issued."""
        return self.certificate.not_valid_after_utc

    def issue_agent(
        self, agent_id: str, csr_pem: bytes, lifetime: datetime.timedelta, now: datetime.datetime
    ) -> Issued:
        """Issue a certificate for an agent (TLS client).

        Only the public key of the request is used.

        Raises:
            CsrRefused: the request does not prove possession of a strong key.
            PkiError: the id or validity is invalid, or the issuing certificate has expired.
        """
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(AGENT_URN + check_id(agent_id))
        ]
        return self._issue(agent_id, csr_pem, profile.CLIENT, names, self._validity(lifetime, now))

    def issue_server(
        self,
        csr_pem: bytes,
        names: ServerNames,
        lifetime: datetime.timedelta,
        now: datetime.datetime,
    ) -> Issued:
        """Issue a certificate for the addresses that agents dial (TLS server).

        Raises:
            CsrRefused: the request does not prove possession of a strong key.
            PkiError: as for `issue_agent`, or an address is invalid.
        """
        alternatives = profile.alternative_names(dns=list(names.dns), ip=list(names.ip))
        if not alternatives:
            raise PkiError("the certificate of a server needs a DNS name or an IP address")
        # For people only: a client checks the alternative names, which may be longer than a common
        # name.
        shown = [*names.dns, *names.ip][0][:64]
        return self._issue(
            shown, csr_pem, profile.SERVER, alternatives, self._validity(lifetime, now)
        )

    def _validity(self, lifetime: datetime.timedelta, now: datetime.datetime) -> profile.Validity:
        return profile.validity(now, lifetime, within=self.certificate)

    def _issue(
        self,
        name: str,
        csr_pem: bytes,
        usage: ObjectIdentifier,
        names: list[x509.GeneralName],
        validity: profile.Validity,
    ) -> Issued:
        public = csr.public_key(csr_pem)
        builder = profile.leaf(
            name, public, validity, parent=self.certificate, usage=usage, names=names
        )
        made = builder.sign(self.key, keys.signing_hash(self.key))
        sent = [made, *self.above] if self._is_root else [made, self.certificate, *self.above]
        return Issued(
            chain_pem=b"".join(
                certificate.public_bytes(serialization.Encoding.PEM) for certificate in sent
            ),
            serial=serial_of(made),
            not_after=validity.end,
        )

    @property
    def _is_root(self) -> bool:
        return self.certificate.subject == self.certificate.issuer
