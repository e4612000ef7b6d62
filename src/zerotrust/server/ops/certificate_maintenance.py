"""Certificate maintenance: expires sessions and renews the server's certificate."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509

from zerotrust.errors import PkiError
from zerotrust.model.server import ServerConfig
from zerotrust.pki.chain_verification import anchor
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.authority import Authority
from zerotrust.server.identity.server_certificate import ServerCertificate
from zerotrust.telemetry import logs

_log = logs.logger("certificates")

TICK: Final = 1.0
"""Seconds between two checks of the sessions."""
MAX_INTERVAL: Final = 60.0
"""Most seconds between two checks of the server's certificate."""
WARN: Final = datetime.timedelta(days=30)
"""Time before the issuing certificate expires from which on a daily warning is logged."""


class CertificateMaintenance:
    """Does what is due at a time.

    Args:
        renewed: called when the files of the server's certificate have changed, and again if it
            raises PkiError.
        renews: this process renews the server's certificate; another one does it otherwise.
    """

    def __init__(
        self, sessions: SessionControl, *, renewed: Callable[[], None], renews: bool = True
    ) -> None:
        self._sessions = sessions
        self._renewed = renewed
        self._renews = renews
        self._seen: bytes | None = None
        self._own: tuple[str, ServerCertificate] | None = None
        self._unused = False
        self._checked_at = self._pause = 0.0
        self._warned_at = 0.0

    def tick(
        self, now: datetime.datetime, config: ServerConfig, authority: Authority | None
    ) -> None:
        """Do what is due."""
        at = now.timestamp()
        self._sessions.expire(at)
        # Where the clock was set back, it shows a time before the last check: do not wait for that.
        if authority is None or self._checked_at <= at < self._checked_at + self._pause:
            return
        self._checked_at, self._pause = at, min(MAX_INTERVAL, config.authority.server_lifetime / 20)
        try:
            if self._renews:
                self._warn(now, authority)
                self._renew(now, config, authority)
            else:
                self._look(Path(config.server.cert_file))
        except PkiError as error:
            _log.error("server certificate not renewed", reason=str(error))

    def _renew(self, now: datetime.datetime, config: ServerConfig, authority: Authority) -> None:
        length = datetime.timedelta(seconds=config.authority.server_lifetime)
        until = self._certificate(config).renew(authority.issuer, _root(authority), length, now)
        if until is not None:
            _log.info("server certificate renewed", until=until)
            self._unused = True
        if self._unused:
            self._renewed()
            self._unused = False

    def _look(self, file: Path) -> None:
        """Use the certificate that another process has renewed."""
        try:
            found = file.read_bytes()
        except OSError:
            return
        if self._seen not in (None, found):
            self._renewed()
        self._seen = found

    def _certificate(self, config: ServerConfig) -> ServerCertificate:
        path = config.server.cert_file
        if self._own is None or self._own[0] != path:
            self._own = (path, ServerCertificate(Path(path), Path(config.server.key_file)))
        return self._own[1]

    def _warn(self, now: datetime.datetime, authority: Authority) -> None:
        left, at = authority.issuer.not_after - now, now.timestamp()
        if left <= WARN and not self._warned_at <= at < self._warned_at + 86400.0:
            self._warned_at = at
            _log.warning(
                "the issuing certificate expires soon: run 0trust ca rotate", days=left.days
            )


def _root(authority: Authority) -> x509.Certificate:
    """Return the trusted root of our issuer.

    Raises:
        PkiError: no trusted root has issued it.
    """
    issuer = authority.issuer
    found = anchor(
        [issuer.certificate, *issuer.above], x509.load_pem_x509_certificates(authority.root_pem)
    )
    if found is None:
        raise PkiError("the issuing certificate was not issued by a root in server.ca_file")
    return found
