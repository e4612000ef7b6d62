"""How an agent gets its first certificate (docs/spec/tunnel-v1.md, section 11).

The root is fetched from whoever answers, and compared with the fingerprint of the join line; then a second connection
is made that this root verifies, and only through that one go the token and the request. The key never leaves the
machine.
"""

import asyncio
import datetime
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from zerotrust.errors import JoinError, PkiError
from zerotrust.model.base import parse_pattern
from zerotrust.net.channel import describe
from zerotrust.net.tls import enrolment_client
from zerotrust.pki.identity import agent_id_of
from zerotrust.pki.join_line import JoinLine, fingerprint
from zerotrust.pki.request import Request

AUTHORITY: Final = "/.well-known/0trust/authority"
JOIN: Final = "/.well-known/0trust/join"
MAX_ANSWER: Final = 64 * 1024
STEP: Final = 10.0
"""Seconds for connecting, for TLS, for each read."""
DEADLINE: Final = 30.0
"""Seconds for all of it."""
SKEW: Final = datetime.timedelta(minutes=2)
"""Clocks that differ by less make no difference: certificates begin five minutes in the past."""

# X509_V_ERR_… of OpenSSL
_NOT_YET: Final = 9
_ENDED: Final = 10
_OTHER_NAME: Final = (62, 64)


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What the server gave, checked.

    Attributes:
        chain_pem: the agent's certificate and those between it and the root.
        root_pem: the root that the join line names, and no other.
        hosts: patterns of host names that the agent may serve.
        skew: how far the server's clock is ahead of ours, where that is more than `SKEW`.
    """

    agent_id: str
    chain_pem: bytes
    root_pem: bytes
    hosts: tuple[str, ...]
    not_after: datetime.datetime
    skew: datetime.timedelta | None


def join(line: JoinLine, request: Request) -> Joined:
    """Ask the server of the line for a certificate.

    Raises:
        JoinError: and why there is none, in one line.
    """
    return asyncio.run(_join(line, request))


async def _join(line: JoinLine, request: Request) -> Joined:
    asking = _Asking(line)
    with asking.explained():
        async with asyncio.timeout(DEADLINE):
            root = _pinned(await asking.get(AUTHORITY), line)
            root_pem = root.public_bytes(serialization.Encoding.PEM)
            body = {"token": line.token, "csr": request.pem.decode("ascii")}
            said = await asking.post(JOIN, body, authority=root_pem.decode("ascii"))
    return _checked(said, root_pem, request, skew=asking.skew)


class _Asking:
    """Calls to one server, and what its errors mean."""

    def __init__(self, line: JoinLine) -> None:
        self._host, port = line.address
        self._where = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        self.skew: datetime.timedelta | None = None

    async def get(self, path: str) -> bytes:
        """What anybody who answers there says; not to be believed."""
        return await self._call("GET", path, authority=None)

    async def post(self, path: str, body: Mapping[str, str], *, authority: str) -> bytes:
        """What the server says that `authority` vouches for."""
        return await self._call("POST", path, authority=authority, body=body)

    async def _call(
        self, method: str, path: str, *, authority: str | None, body: Mapping[str, str] | None = None
    ) -> bytes:
        client = httpx.AsyncClient(verify=enrolment_client(authority), trust_env=False, timeout=STEP)
        async with client, client.stream(method, f"https://{self._where}{path}", json=body) as response:
            self._compare_clocks(response)
            answer = b""
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) > MAX_ANSWER:
                    raise JoinError(f"{self._where} answers more than a 0trust server does; is the address right?")
            if response.is_success:
                return answer
            raise JoinError(self._refusal(response.status_code, answer, trusted=authority is not None))

    def _refusal(self, status: int, answer: bytes, *, trusted: bool) -> str:
        said = _object(answer).get("error")
        if trusted and isinstance(said, str):
            return f"{self._where} refuses: {_one_line(said)}"
        return (
            f"{self._where} answers with status {status}: is it a 0trust server with an authority in its server.yaml?"
        )

    def _compare_clocks(self, response: httpx.Response) -> None:
        try:
            said = parsedate_to_datetime(response.headers.get("Date", ""))
        except ValueError:
            return
        skew = said.replace(tzinfo=said.tzinfo or datetime.UTC) - datetime.datetime.now(datetime.UTC)
        self.skew = skew if abs(skew) > SKEW else None

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Errors of TLS and sockets as sentences."""
        try:
            yield
        except (TimeoutError, httpx.TimeoutException):
            raise JoinError(f"{self._where} does not answer; is the address right, and the port open?") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise JoinError(self._meaning(error)) from error

    def _meaning(self, error: Exception) -> str:
        causes = _causes(error)
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return self._distrust(cause)
        # The innermost says it best: those around it only know that nothing worked.
        reasons = [describe(cause) for cause in causes if isinstance(cause, OSError)]
        if isinstance(error, httpx.ConnectError) and not any(isinstance(cause, ssl.SSLError) for cause in causes):
            reason = reasons[-1] if reasons else "no connection"
            return f"cannot reach {self._where}: {reason}; is the address right, and the port open?"
        return (
            f"{self._where} lets nobody in who has no certificate yet; "
            "is it a 0trust server with an authority in its server.yaml?"
        )

    def _distrust(self, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code in _OTHER_NAME:
            return (
                f'the certificate of {self._where} is not for "{self._host}"; use an address that it is for, '
                f"or issue it again: 0trust ca issue server {self._host}"
            )
        if error.verify_code in (_NOT_YET, _ENDED):
            if self.skew is not None:
                return f"the certificate of {self._where} cannot be verified because of the time: {clocks(self.skew)}"
            state = "has ended" if error.verify_code == _ENDED else "begins in the future"
            return f"the certificate of {self._where} {state}; issue it again on the server"
        return (
            f"{self._where} has no certificate of the authority that the join line names: somebody may be in between; "
            "the token was not sent"
        )


def clocks(skew: datetime.timedelta) -> str:
    """A sentence about clocks that differ; `skew` is how far the server's is ahead."""
    how = "behind" if skew > datetime.timedelta(0) else "ahead of"
    return f"this machine's clock is {abs(skew) - abs(skew) % datetime.timedelta(seconds=1)} {how} the server's; set it"


def _pinned(pem: bytes, line: JoinLine) -> x509.Certificate:
    """The root that the line names, among those that somebody says are the server's."""
    try:
        offered = x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        raise JoinError(
            f"{line.server} answers with something that is no certificate; is it a 0trust server?"
        ) from None
    for certificate in offered:
        if fingerprint(certificate) == line.fingerprint:
            return certificate
    raise JoinError(
        f"{line.server} has another authority (fingerprint {fingerprint(offered[0])[:16]}…) than the join line names "
        f"({line.fingerprint[:16]}…): somebody may be in between, or the authority is a new one; the token was not sent"
    )


def _checked(answer: bytes, root_pem: bytes, request: Request, *, skew: datetime.timedelta | None) -> Joined:
    said = _object(answer)
    try:
        chain_pem = str(said["certificate"]).encode("ascii")
        certificate = x509.load_pem_x509_certificate(chain_pem)
        agent_id = agent_id_of(certificate)
        hosts = tuple(parse_pattern(str(host)) for host in said["hosts"])
        own = certificate.public_key() == request.key.public_key() and agent_id == said["agent"]
    except (ValueError, KeyError, TypeError, PkiError, x509.InvalidVersion):
        own = False
    if not own:
        raise JoinError(
            "the server's answer cannot be used; is it a newer version? See its log, and make another token"
        )
    return Joined(
        agent_id=agent_id,
        chain_pem=chain_pem,
        root_pem=root_pem,
        hosts=hosts,
        not_after=certificate.not_valid_after_utc,
        skew=skew,
    )


def _object(answer: bytes) -> dict[str, Any]:

    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _one_line(text: str) -> str:
    """What another machine says, fit for a terminal."""
    return "".join(character if character.isprintable() else " " for character in text[:300]).strip()


def _causes(error: BaseException) -> list[BaseException]:
    """What led to it, the innermost last; causes can go round in circles."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        inside = following.exceptions[0] if isinstance(following, BaseExceptionGroup) else None
        following = inside or following.__cause__ or following.__context__
    return found
