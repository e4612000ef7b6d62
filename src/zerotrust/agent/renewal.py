"""The agent's next certificate: when to ask for it, and what comes of the answer.

Asked for after about two thirds of its life, with a new key that never leaves this machine. Where there is none, it is
asked for again and again, less often the more time is left.
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

AGAIN_LEAST: Final = 10.0
AGAIN_MOST: Final = 3600.0
"""Seconds between two requests."""


@dataclass(frozen=True, slots=True)
class RenewalOutcome:
    """What came of an answer: until when the new certificate is good, or why there is none."""

    until: str = ""
    refusal: str = ""


class Renewal:
    """The certificate and key in two files, and what has been asked for. `now` is in seconds since the epoch.

    Args:
        authority: the file with the root that servers and agents verify each other by; read with each answer.

    Attributes:
        agent: whom the certificate names.

    Raises:
        PkiError: the certificate can't be read.
    """

    def __init__(self, certificate: Path, key: Path, authority: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._authority = authority
        self._asked: CertificateRequest | None = None
        self._stored: dict[str, bytes] = {}
        self._asked_at = 0.0
        self._plan(load_certificate(certificate))

    def due(self, now: float) -> bool:
        """It is time to ask."""
        # Asked in the future, by a clock that was set back since: what was to be waited for then may be long.
        return now >= self._next or now < self._asked_at

    def ended(self, now: float) -> bool:
        """The certificate is no longer good: TLS would refuse it."""
        return now >= self._ends

    def ask(self, now: float) -> Renew:
        """The request, with a new key, which is in its place already.

        Raises:
            PkiError: the answer couldn't be kept; so nobody is asked, as each certificate that is issued brings nearer
                the one with which the agent can't come back.
        """
        self._asked_at = now
        self._next = now + self._again(now)
        asked = create()
        key_pair_files.prepare(self._certificate, self._key, keys.to_pem(asked.key))
        self._asked = asked
        return Renew(csr=asked.pem.decode())

    def take(self, message: Renewed) -> RenewalOutcome:
        """Put the new certificate and its key in the place of the old ones, after both have worked in a handshake.

        Raises:
            PkiError: they can't be written, or a true server would refuse them. The old ones stay, and the agent asks
                again.
        """
        asked, self._asked = self._asked, None
        if asked is None:
            return RenewalOutcome(refusal="nothing was asked for")
        if not message.chain:
            return RenewalOutcome(refusal=message.reason or "no reason was given")
        new = accepted_certificate.check(
            message.chain.encode(),
            asked.key,
            agent_id=self.agent,
            root_pem=keys.read(self._authority, what="certificate"),
            folder=self._certificate.parent,
        )
        key_pem = keys.to_pem(asked.key)
        key_pair_files.replace(self._certificate, self._key, chain=new.chain_pem, key_pem=key_pem)
        self._stored = {str(self._certificate): new.chain_pem, str(self._key): key_pem}
        self._plan(new.certificate)
        return RenewalOutcome(until=f"{new.certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC")

    def wrote(self, path: str) -> bool:
        """What stands in a file was put there by `take`."""
        expected = self._stored.get(path)
        try:
            return expected is not None and Path(path).read_bytes() == expected
        except OSError:
            return False

    def _plan(self, certificate: x509.Certificate) -> None:
        self._asked_at = 0.0
        self.agent = agent_id_of(certificate)
        self._ends = certificate.not_valid_after_utc.timestamp()
        self._next = renewal_time.renew_at(certificate, renewal_time.share())

    def _again(self, now: float) -> float:
        return min(max((self._ends - now) / 10, AGAIN_LEAST), AGAIN_MOST)
