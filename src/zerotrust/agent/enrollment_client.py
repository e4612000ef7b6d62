"""Calls of an agent that has no certificate, or none that is good any more (docs/spec/tunnel-v1.md, section 11)."""

import asyncio
import datetime
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from zerotrust.errors import JoinError
from zerotrust.net.channel import describe
from zerotrust.net.tls import enrolment_client

AUTHORITY: Final = "/.well-known/0trust/authority"
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


class EnrollmentClient:
    """Calls to one server, and what its errors mean.

    Args:
        server_name: what the server's certificate has to be for, where that is not the host.
        trusted: which authority is meant, for people.
    """

    def __init__(self, host: str, port: int, *, trusted: str, server_name: str | None = None) -> None:
        self._host = host
        self._server_name = server_name
        self._trusted = trusted
        self._where = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        self.skew: datetime.timedelta | None = None

    async def get(self, path: str) -> bytes:
        """What anybody who answers there says; not to be believed."""
        return await self._call("GET", path, authority=None)

    async def post(self, path: str, body: Mapping[str, str], *, authority: str) -> bytes:
        """What the server says that `authority` vouches for."""
        return await self._call("POST", path, authority=authority, body=body)

    async def compare_clocks(self) -> datetime.timedelta | None:
        """How far the clock of whoever answers is ahead; None where it makes no difference, or nobody says."""
        with suppress(JoinError, TimeoutError, httpx.HTTPError, httpx.InvalidURL):
            async with asyncio.timeout(STEP):
                await self.get(AUTHORITY)
        return self.skew

    async def _call(
        self, method: str, path: str, *, authority: str | None, body: Mapping[str, str] | None = None
    ) -> bytes:
        client = httpx.AsyncClient(verify=enrolment_client(authority), trust_env=False, timeout=STEP)
        extensions = {} if self._server_name is None else {"sni_hostname": self._server_name}
        asked = client.stream(method, f"https://{self._where}{path}", json=body, extensions=extensions)
        async with client, asked as response:
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
        said = read_object(answer).get("error")
        if trusted and isinstance(said, str):
            return f"{self._where} refuses: {_one_line(said)}"
        return (
            f"{self._where} answers with status {status}: is it a 0trust server with an authority in its server.yaml?"
        )

    def _compare_clocks(self, response: httpx.Response) -> None:
        try:
            said = parsedate_to_datetime(response.headers.get("Date", ""))
            skew = said.replace(tzinfo=said.tzinfo or datetime.UTC) - datetime.datetime.now(datetime.UTC)
        except (ValueError, OverflowError):  # also a zone or a year beyond what Python can say
            return
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
            name = self._server_name or self._host
            return (
                f'the certificate of {self._where} is not for "{name}"; use an address that it is for, '
                f"or issue it again: 0trust ca issue server {name}"
            )
        if is_about_time(error):
            if self.skew is not None:
                return f"the certificate of {self._where} cannot be verified because of the time: {clocks(self.skew)}"
            state = "has ended" if error.verify_code == _ENDED else "begins in the future"
            return f"the certificate of {self._where} {state}; issue it again on the server"
        return (
            f"the certificate of {self._where} is not from the CA that {self._trusted}: the connection may be "
            "intercepted; nothing secret was sent"
        )


def is_about_time(error: BaseException) -> bool:
    """A certificate was refused because by this machine's clock it has ended, or not begun."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in (_NOT_YET, _ENDED)


def clocks(skew: datetime.timedelta) -> str:
    """A sentence about clocks that differ; `skew` is how far the server's is ahead."""
    how = "behind" if skew > datetime.timedelta(0) else "ahead of"
    return f"this machine's clock is {abs(skew) - abs(skew) % datetime.timedelta(seconds=1)} {how} the server's; set it"


def read_object(answer: bytes) -> dict[str, Any]:
    """The JSON object of an answer; empty where it is none."""
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
