"""Renewal of the agent's certificate: when to request a new one, and how to store it.

The agent requests a new certificate after about two thirds of the validity of the old one, with a
new key that stays on this machine. If it gets none, it asks again: more often as the end comes
closer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from zerotrust.agent import accepted_certificate
from zerotrust.pki import key_pair_files, keys, renewal_time
from zerotrust.pki.ca_directory import load_certificate
from zerotrust.pki.csr import CertificateRequest, create
from zerotrust.pki.identity import agent_id_of
from zerotrust.tunnel.messages import Renew, Renewed

MIN_RETRY: Final = 10.0
MAX_RETRY: Final = 3600.0
"""Shortest and longest time between two requests, in seconds."""


@dataclass(frozen=True, slots=True)
class RenewalOutcome:
    """Result of a request: the end of the new certificate's validity, or the reason of the
    refusal."""

    until: str = ""
    refusal: str = ""


class Renewal:
    """Certificate and key in two files, and the request for new ones.

    `now` is in seconds since the epoch in all methods.

    Args:
        authority: the file with the root that servers and agents verify each other by; read for
            each answer.

    Attributes:
        agent: the agent id in the certificate.
        next_at: time of the next request for a certificate, in seconds since the epoch.

    Raises:
        PkiError: the certificate can't be read.
    """

    def __init__(self, certificate: Path, key: Path, authority: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._authority = authority
        self._request: CertificateRequest | None = None
        self._stored: dict[str, bytes] = {}
        self._requested_at = 0.0
        self._plan(load_certificate(certificate))

    def due(self, now: float) -> bool:
        """Return True if it is time to request a new certificate."""
        # If the last request is in the future, the clock was set back since, and `next_at` may be
        # far away.
        return now >= self.next_at or now < self._requested_at

    def expired(self, now: float) -> bool:
        """Return True if the certificate has expired, so that TLS would refuse it."""
        return now >= self._expires_at

    def request(self, now: float) -> Renew:
        """Return a request for a new certificate, after writing its new key to disk.

        Raises:
            PkiError: the key can't be written. Then the agent must not ask, because it could not
                store the answer, and the server limits the number of certificates.
        """
        self._requested_at = now
        self.next_at = now + self._retry_delay(now)
        request = create()
        key_pair_files.prepare(self._certificate, self._key, keys.to_pem(request.key))
        self._request = request
        return Renew(csr=request.pem.decode())

    def store(self, message: Renewed) -> RenewalOutcome:
        """Replace certificate and key by the new ones, after a test handshake with them.

        Raises:
            PkiError: they can't be written, or a genuine server would refuse them. The old ones
                stay, and the agent asks again.
        """
        request, self._request = self._request, None
        if request is None:
            return RenewalOutcome(refusal="the server sent a certificate that was not requested")
        if not message.chain:
            return RenewalOutcome(refusal=message.reason or "the server gave no reason")
        new = accepted_certificate.check(
            message.chain.encode(),
            request.key,
            agent_id=self.agent,
            root_pem=keys.read(self._authority, what="certificate"),
            folder=self._certificate.parent,
        )
        key_pem = keys.to_pem(request.key)
        key_pair_files.replace(self._certificate, self._key, chain=new.chain_pem, key_pem=key_pem)
        self._stored = {str(self._certificate): new.chain_pem, str(self._key): key_pem}
        self._plan(new.certificate)
        return RenewalOutcome(until=f"{new.certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC")

    def wrote(self, path: str) -> bool:
        """Return True if `store` wrote the content of this file."""
        expected = self._stored.get(path)
        try:
            return expected is not None and Path(path).read_bytes() == expected
        except OSError:
            return False

    def _plan(self, certificate: x509.Certificate) -> None:
        self._requested_at = 0.0
        self.agent = agent_id_of(certificate)
        self._expires_at = certificate.not_valid_after_utc.timestamp()
        self.next_at = renewal_time.renew_at(certificate, renewal_time.share())

    def _retry_delay(self, now: float) -> float:
        return min(max((self._expires_at - now) / 10, MIN_RETRY), MAX_RETRY)
