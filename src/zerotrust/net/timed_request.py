"""One HTTP/1.1 request on a new connection, with the time of each step, for diagnosis.

A failed step is a result, not an error. If a certificate cannot be verified, the request is
repeated without verification: the result then has the reason and the certificate that came. The
repeated request has no credential, because anyone may have answered.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import h11

from zerotrust.net.channel import describe
from zerotrust.net.tls import HTTP
from zerotrust.tunnel.binary import printable

TIMEOUT: Final = 5.0
"""Seconds for each step."""
MAX_BODY: Final = 64 * 1024
MAX_TEXT: Final = 200
"""Characters of a text from another machine."""

Step = Literal["tcp", "tls", "http"]
Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Address to connect to, and the request to send.

    Attributes:
        path: path of a unix socket, instead of address and port.
        tls: None for plain HTTP.
        server_name: expected name in the certificate.
        fields: header fields besides Host.
        method: empty to send nothing: the attempt ends with the connection.
    """

    address: str = ""
    port: int = 0
    path: str = ""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    host: str = ""
    method: str = "GET"
    target: str = "/"
    fields: Fields = ()


@dataclass(slots=True, kw_only=True)
class TimedAttempt:
    """Course of an attempt.

    Attributes:
        seconds: time of each step that has succeeded.
        failed_at: the step that has failed; empty if there is an answer.
        error: the reason of the failure.
        timed_out: the failed step did not end in time.
        untrusted: the reason why the certificate could not be verified; empty if it was.
        certificate: the peer's certificate, DER; empty without TLS.
        tls_version: for example `TLSv1.3`.
        status: status of the answer; 0 without one.
        fields: header fields of the answer by lower-case name, cut to `MAX_TEXT` characters.
        body: the beginning of the body.
    """

    seconds: dict[Step, float] = field(default_factory=dict)
    failed_at: Step | None = None
    error: str = ""
    timed_out: bool = False
    untrusted: str = ""
    certificate: bytes = b""
    tls_version: str = ""
    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def websocket_fields(origin: str = "") -> Fields:
    """Return the header fields of a WebSocket handshake (RFC 6455 s4.1)."""
    fields: Fields = (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    )
    return (*fields, ("Origin", origin)) if origin else fields


def unverified() -> ssl.SSLContext:
    """Return a context that verifies nothing: use it only to look at a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([HTTP])
    return context


async def attempt(target: Target, *, step_timeout: float = TIMEOUT) -> TimedAttempt:
    """Send the request and read the answer, each step within `step_timeout` seconds."""
    course = TimedAttempt()
    refused = await _attempt(target, target.tls, course, step_timeout)
    if refused is None:
        return course
    again = TimedAttempt(untrusted=refused)
    fields = tuple(one for one in target.fields if one[0].lower() != "authorization")
    await _attempt(replace(target, fields=fields), unverified(), again, step_timeout)
    return again


async def _attempt(
    target: Target, tls: ssl.SSLContext | None, course: TimedAttempt, step_timeout: float
) -> str | None:
    """Make an attempt; return the reason if the certificate could not be verified."""
    writer: asyncio.StreamWriter | None = None
    try:
        with _timed(course, "tcp", step_timeout):
            async with asyncio.timeout(step_timeout):
                reader, writer = await _connect(target)
        if tls is not None:
            with _timed(course, "tls", step_timeout):
                async with asyncio.timeout(step_timeout):
                    await writer.start_tls(tls, server_hostname=target.server_name or None)
            _note_tls(course, writer)
        if target.method:
            with _timed(course, "http", step_timeout):
                async with asyncio.timeout(step_timeout):
                    await _exchange(target, reader, writer, course)
    except _StepFailed as failure:
        cause = failure.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            return describe(cause)
    finally:
        if writer is not None:
            writer.transport.abort()
    return None


class _StepFailed(Exception):  # noqa: N818 - it ends an attempt, and no caller sees it
    """A step has failed, and the attempt has the reason."""


@contextlib.contextmanager
def _timed(course: TimedAttempt, step: Step, step_timeout: float) -> Iterator[None]:
    """Note the time of a step, or its failure."""
    begun_at = time.perf_counter()
    try:
        yield
    except TimeoutError as error:
        course.failed_at, course.timed_out = step, True
        course.error = f"no answer within {step_timeout:g} s"
        raise _StepFailed from error
    except (OSError, ValueError, h11.ProtocolError) as error:
        course.failed_at = step
        course.error = cut(describe(error))
        raise _StepFailed from error
    course.seconds[step] = time.perf_counter() - begun_at


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.path:
        return await asyncio.open_unix_connection(target.path)
    return await asyncio.open_connection(target.address, target.port)


def _note_tls(course: TimedAttempt, writer: asyncio.StreamWriter) -> None:
    made = writer.get_extra_info("ssl_object")
    if made is not None:
        course.certificate = made.getpeercert(binary_form=True) or b""
        course.tls_version = made.version() or ""


async def _exchange(
    target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, course: TimedAttempt
) -> None:
    connection = h11.Connection(h11.CLIENT)
    upgrades = any(name.lower() == "upgrade" for name, _ in target.fields)
    fields = [("Host", target.host), *target.fields]
    if not upgrades:
        fields.append(("Connection", "close"))
    request = h11.Request(method=target.method, target=target.target, headers=fields)
    for event in (request, h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
    while not _take(connection.next_event(), course, upgrades=upgrades):
        if connection.their_state is not h11.SWITCHED_PROTOCOL:
            connection.receive_data(await reader.read(MAX_BODY))


def _take(event: object, course: TimedAttempt, *, upgrades: bool) -> bool:
    """Note an event of the answer; return True if it was the last one of interest."""
    match event:
        case h11.InformationalResponse(status_code=101) | h11.Response() as head:
            course.status = head.status_code
            for name, value in head.headers:
                course.fields.setdefault(name.decode("latin-1"), cut(value.decode("latin-1")))
            return upgrades or course.status == 101
        case h11.Data(data=data):
            course.body = (course.body + bytes(data))[:MAX_BODY]
            return len(course.body) == MAX_BODY
    return isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed))


def cut(text: str) -> str:
    """Return a text from another machine, short and safe for a terminal."""
    return printable(text[:MAX_TEXT]).strip()
