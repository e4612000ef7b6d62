"""HTTP client for enrollment: for agents without a valid certificate (docs/spec/tunnel-v1.md,
section 11)."""

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
from zerotrust.net.tls import enrollment_client

AUTHORITY: Final = "/.well-known/0trust/authority"
MAX_ANSWER: Final = 64 * 1024
STEP_TIMEOUT: Final = 10.0
"""Seconds for connecting, for the TLS handshake and for each read."""
DEADLINE: Final = 30.0
"""Seconds for the whole exchange."""
MIN_SKEW: Final = datetime.timedelta(minutes=2)
"""A smaller difference of the clocks is ignored: certificates are valid from five minutes before
they are issued."""

# X509_V_ERR_… of OpenSSL
_NOT_YET: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = (62, 64)


class EnrollmentClient:
    """Calls to the enrollment API of one server, and explanations of their errors.

    Args:
        trusted: names the trusted authority in error messages: "the authority that {trusted}".
        server_name: expected name in the server's certificate, if it is not the host.

    Attributes:
        skew: how far the server's clock is ahead, by its last answer; None if less than MIN_SKEW.
    """

    def __init__(
        self, host: str, port: int, *, trusted: str, server_name: str | None = None
    ) -> None:
        self._host = host
        self._server_name = server_name
        self._trusted = trusted
        self._where = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        self.skew: datetime.timedelta | None = None

    async def get(self, path: str) -> bytes:
        """Return the body of an answer from an unverified server. Do not trust it."""
        return await self._call("GET", path, authority=None)

    async def post(self, path: str, body: Mapping[str, str], *, authority: str) -> bytes:
        """Return the body of an answer from a server that `authority` has certified."""
        return await self._call("POST", path, authority=authority, body=body)

    async def compare_clocks(self) -> datetime.timedelta | None:
        """Return how far the server's clock is ahead; None if unknown or less than MIN_SKEW."""
        with suppress(JoinError, TimeoutError, httpx.HTTPError, httpx.InvalidURL):
            async with asyncio.timeout(STEP_TIMEOUT):
                await self.get(AUTHORITY)
        return self.skew

    async def _call(
        self,
        method: str,
        path: str,
        *,
        authority: str | None,
        body: Mapping[str, str] | None = None,
    ) -> bytes:
        client = httpx.AsyncClient(
            verify=enrollment_client(authority), trust_env=False, timeout=STEP_TIMEOUT
        )
        extensions = {} if self._server_name is None else {"sni_hostname": self._server_name}
        request = client.stream(
            method, f"https://{self._where}{path}", json=body, extensions=extensions
        )
        async with client, request as response:
            self._compare_clocks(response)
            answer = b""
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) > MAX_ANSWER:
                    raise JoinError(
                        f"{self._where}: the answer is larger than a 0trust server's; check the"
                        " address"
                    )
            if response.is_success:
                return answer
            raise JoinError(
                self._refusal(response.status_code, answer, trusted=authority is not None)
            )

    def _refusal(self, status: int, answer: bytes, *, trusted: bool) -> str:
        reason = read_object(answer).get("error")
        if trusted and isinstance(reason, str):
            return f"{self._where} refuses: {_one_line(reason)}"
        return (
            f"{self._where} answers with status {status}: is it a 0trust server with an authority"
            " in its server.yaml?"
        )

    def _compare_clocks(self, response: httpx.Response) -> None:
        try:
            date = parsedate_to_datetime(response.headers.get("Date", ""))
            skew = date.replace(tzinfo=date.tzinfo or datetime.UTC) - datetime.datetime.now(
                datetime.UTC
            )
        except (
            ValueError,
            OverflowError,
        ):  # also for a zone or a year that Python cannot represent
            return
        self.skew = skew if abs(skew) > MIN_SKEW else None

    @contextmanager
    def explaining_errors(self) -> Iterator[None]:
        """Turn errors of TLS, HTTP and sockets into a JoinError that says what to do."""
        try:
            yield
        except (TimeoutError, httpx.TimeoutException):
            raise JoinError(
                f"{self._where} does not answer; check the address, and that the port is open"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise JoinError(self._explain(error)) from error

    def _explain(self, error: Exception) -> str:
        causes = _causes(error)
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return self._explain_verification(cause)
        # The innermost cause has the reason; the exceptions around it say only that the connection
        # failed.
        reasons = [describe(cause) for cause in causes if isinstance(cause, OSError)]
        if isinstance(error, httpx.ConnectError) and not any(
            isinstance(cause, ssl.SSLError) for cause in causes
        ):
            reason = reasons[-1] if reasons else "no connection"
            return (
                f"cannot connect to {self._where}: {reason}; check the address, and that the port"
                " is open"
            )
        return (
            f"{self._where} accepts no connection without a certificate; "
            "is it a 0trust server with an authority in its server.yaml?"
        )

    def _explain_verification(self, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code in _OTHER_NAME:
            name = self._server_name or self._host
            return (
                f'the certificate of {self._where} is not for "{name}"; use an address that it is'
                f" for, or issue it again: 0trust ca issue server {name}"
            )
        if is_about_time(error):
            if self.skew is not None:
                return f"the certificate of {self._where} cannot be verified: {clocks(self.skew)}"
            state = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
            return f"the certificate of {self._where} {state}; issue it again on the server"
        return (
            f"the certificate of {self._where} is not from the CA that {self._trusted}: the"
            " connection may be intercepted; nothing secret was sent"
        )


def is_about_time(error: BaseException) -> bool:
    """Return True if a certificate was refused for its dates: expired, or not valid yet."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in (
        _NOT_YET,
        _EXPIRED,
    )


def clocks(skew: datetime.timedelta) -> str:
    """Return a message about differing clocks; `skew` is how far the server's is ahead."""
    how = "behind" if skew > datetime.timedelta(0) else "ahead of"
    return (
        f"this machine's clock is {abs(skew) - abs(skew) % datetime.timedelta(seconds=1)} {how} the"
        " server's; set it"
    )


def read_object(answer: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one if the answer is not a JSON object."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _one_line(text: str) -> str:
    """Return at most 300 characters of a text from another machine, safe for a terminal."""
    return "".join(
        character if character.isprintable() else " " for character in text[:300]
    ).strip()


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and its chain of causes, the innermost last. The chain may have cycles."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        nested = following.exceptions[0] if isinstance(following, BaseExceptionGroup) else None
        following = nested or following.__cause__ or following.__context__
    return found
