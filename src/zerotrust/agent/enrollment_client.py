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

import h11

from zerotrust.agent.proxies import Proxies
from zerotrust.agent.server_location import ServerLocation
from zerotrust.agent.transport_selector import TransportSelector
from zerotrust.errors import JoinError, ProxyError
from zerotrust.net.channel import describe
from zerotrust.net.tls import enrollment_client

AUTHORITY: Final = "/.well-known/0trust/authority"
MAX_ANSWER: Final = 64 * 1024
STEP_TIMEOUT: Final = 10.0
"""Seconds for connecting with its TLS handshake, in two attempts, and for each read."""
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
        transport: selects the way to the server.
        trusted: names the trusted authority in error messages: "the authority that {trusted}".
        proxies: the proxies to connect through.

    Attributes:
        skew: how far the server's clock is ahead, by its last answer; None if less than MIN_SKEW.
    """

    def __init__(
        self,
        location: ServerLocation,
        transport: TransportSelector,
        *,
        trusted: str,
        proxies: Proxies | None = None,
    ) -> None:
        self._location = location
        self._transport = transport
        self._trusted = trusted
        self._proxies = proxies or Proxies()
        self._small_segments = False
        self._where = str(location)
        self.skew: datetime.timedelta | None = None

    async def get(self, path: str) -> bytes:
        """Return the body of an answer from an unverified server. Do not trust it."""
        return await self._call("GET", path, authority=None)

    async def post(self, path: str, body: Mapping[str, str], *, authority: str) -> bytes:
        """Return the body of an answer from a server that `authority` has certified."""
        return await self._call("POST", path, authority=authority, body=json.dumps(body).encode())

    async def compare_clocks(self) -> datetime.timedelta | None:
        """Return how far the server's clock is ahead; None if unknown or less than MIN_SKEW."""
        with suppress(JoinError, OSError, h11.RemoteProtocolError):
            async with asyncio.timeout(STEP_TIMEOUT):
                await self.get(AUTHORITY)
        return self.skew

    async def _call(
        self, method: str, path: str, *, authority: str | None, body: bytes = b""
    ) -> bytes:
        reader, transport = await self._open(authority)
        try:
            connection = h11.Connection(h11.CLIENT)
            fields = [("Host", self._where), ("Connection", "close")]
            if body:
                fields += [
                    ("Content-Type", "application/json"),
                    ("Content-Length", str(len(body))),
                ]
            request = h11.Request(method=method, target=path, headers=fields)
            for event in (request, h11.Data(body), h11.EndOfMessage()):
                transport.write(connection.send(event) or b"")
            return await self._answer(connection, reader, trusted=authority is not None)
        finally:
            transport.abort()

    async def _open(self, authority: str | None) -> tuple[asyncio.StreamReader, asyncio.Transport]:
        reader = asyncio.StreamReader()
        try:
            transport = await self._location.connect(
                lambda: asyncio.StreamReaderProtocol(reader),
                self._transport,
                connect_timeout=STEP_TIMEOUT / 2,
                tls=enrollment_client(authority),
                proxies=self._proxies,
                small_segments=self._small_segments,
            )
            return reader, transport
        except (ssl.SSLError, ProxyError):
            raise
        except OSError as error:
            if isinstance(error.__cause__ or error, TimeoutError) and not self._small_segments:
                self._small_segments = True
                return await self._open(authority)
            if isinstance(error, TimeoutError):
                raise
            raise JoinError(
                f"cannot connect to {self._where}: {describe(error)}; check the address, and that"
                " the port is open"
            ) from error

    async def _answer(
        self, connection: h11.Connection, reader: asyncio.StreamReader, *, trusted: bool
    ) -> bytes:
        status, answer = 0, b""
        while True:
            match connection.next_event():
                case h11.NEED_DATA:
                    async with asyncio.timeout(STEP_TIMEOUT):
                        connection.receive_data(await reader.read(MAX_ANSWER))
                case h11.Response(status_code=code, headers=fields):
                    status = code
                    self._compare_clocks(dict(fields).get(b"date", b""))
                case h11.Data(data=data):
                    answer += data
                    if len(answer) > MAX_ANSWER:
                        raise JoinError(
                            f"{self._where}: the answer is larger than a 0trust server's; check the"
                            " address"
                        )
                case h11.EndOfMessage():
                    break
        if 200 <= status < 300:
            return answer
        raise JoinError(self._refusal(status, answer, trusted=trusted))

    def _refusal(self, status: int, answer: bytes, *, trusted: bool) -> str:
        reason = read_object(answer).get("error")
        if trusted and isinstance(reason, str):
            return f"{self._where} refuses: {_one_line(reason)}"
        return (
            f"{self._where} answers with status {status}: is it a 0trust server with an authority"
            " in its server.yaml?"
        )

    def _compare_clocks(self, field: bytes) -> None:
        try:
            date = parsedate_to_datetime(field.decode("ascii"))
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
        """Turn errors of proxies, TLS, HTTP and sockets into a JoinError that says what to do."""
        try:
            yield
        except TimeoutError:
            raise JoinError(
                f"{self._where} does not answer; check the address, and that the port is open"
            ) from None
        except ProxyError as error:
            raise JoinError(str(error)) from error
        except ssl.SSLCertVerificationError as error:
            raise JoinError(self._explain_verification(error)) from error
        except (OSError, h11.RemoteProtocolError) as error:
            raise JoinError(
                f"{self._where} accepts no connection without a certificate; "
                "is it a 0trust server with an authority in its server.yaml?"
            ) from error

    def _explain_verification(self, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code in _OTHER_NAME:
            name = self._location.server_name
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
