"""Tests of zerotrust.net.timed_request: real sockets, plain and TLS."""

import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.authorities import ForeignCertificate
from tests.support.backends import UnresponsivePort
from tests.support.ports import closed_port
from tests.support.scripted_server import OK, SWITCHED, scripted, server_tls, status, trusting
from zerotrust.net.timed_request import (
    MAX_BODY,
    MAX_TEXT,
    Target,
    attempt,
    unverified,
    websocket_fields,
)

pytestmark = pytest.mark.anyio


def at(port: int, **changes: object) -> Target:
    values: dict[str, object] = {"address": "127.0.0.1", "port": port, "host": "app.example.com"}
    return Target(**{**values, **changes})  # type: ignore[arg-type]


async def test_a_request_with_the_time_of_each_step() -> None:
    heads: list[str] = []

    def script(head: str) -> bytes:
        heads.append(head)
        return status(418, "Server: tea\x07pot", "X-Long: " + "x" * 999, body=b"short and stout")

    async with scripted(script) as port:
        course = await attempt(at(port, target="/pot?a=1", fields=(("X-A", "b"),)))
    assert (course.status, course.body, course.failed_at) == (418, b"short and stout", None)
    assert {*course.seconds} == {"tcp", "http"}
    assert all(0 <= seconds < 5 for seconds in course.seconds.values())
    assert course.fields["server"] == "tea?pot"
    assert len(course.fields["x-long"]) == MAX_TEXT
    assert heads[0].startswith("GET /pot?a=1 HTTP/1.1\r\n")
    assert "Host: app.example.com\r\n" in heads[0]
    assert "X-A: b\r\n" in heads[0]


async def test_bodies_are_bounded() -> None:
    async with scripted(lambda _: status(200, body=b"x" * (MAX_BODY * 3))) as port:
        course = await attempt(at(port))
    assert len(course.body) == MAX_BODY
    assert course.failed_at is None


async def test_a_websocket_handshake() -> None:
    def script(head: str) -> bytes:
        return SWITCHED if "Origin: https://app.example.com\r\n" in head else status(403)

    async with scripted(script) as port:
        opened = await attempt(at(port, fields=websocket_fields("https://app.example.com")))
        refused = await attempt(at(port, fields=websocket_fields()))
    assert (opened.status, refused.status) == (101, 403)


async def test_steps_that_fail(tmp_path: Path) -> None:
    refused = await attempt(at(closed_port()))
    assert (refused.failed_at, refused.error) == ("tcp", "connection refused")
    assert not refused.timed_out
    missing = await attempt(Target(path=str(tmp_path / "no.sock"), host="a"))
    assert (missing.failed_at, missing.error) == ("tcp", "no such file or directory")
    async with scripted(lambda _: b"") as port:
        silent = await attempt(at(port), step_timeout=0.1)
        assert (silent.failed_at, silent.timed_out) == ("http", True)
        no_tls = await attempt(at(port, tls=unverified()), step_timeout=0.1)
        assert no_tls.failed_at == "tls"
    async with scripted(lambda _: b"SSH-2.0-OpenSSH_9\r\n") as port:
        other = await attempt(at(port))
        assert other.failed_at == "http"
        assert other.error
    with_line_break = await attempt(at(port, host="a\r\nb"))
    assert with_line_break.failed_at is not None


async def test_an_address_that_drops_packets() -> None:
    hole = UnresponsivePort()
    course = await attempt(at(hole.port), step_timeout=0.1)
    hole.close()
    assert (course.failed_at, course.timed_out) == ("tcp", True)
    assert course.error == "no answer within 0.1 s"


async def test_certificates(tmp_path: Path) -> None:
    root = ForeignCertificate.root("Test CA")
    issued = root.issue("app", dns=("app.example.com",))
    async with scripted(lambda _: OK, tls=server_tls(issued, tmp_path)) as port:
        trusted = await attempt(at(port, tls=trusting(root), server_name="app.example.com"))
        unknown = await attempt(
            at(port, tls=ssl.create_default_context(), server_name="app.example.com")
        )
        misnamed = await attempt(at(port, tls=trusting(root), server_name="b.example.com"))
        only_tls = await attempt(
            at(port, tls=trusting(root), server_name="app.example.com", method="")
        )
    assert (trusted.status, trusted.untrusted) == (200, "")
    assert trusted.certificate == issued.der
    assert trusted.tls_version == "TLSv1.3"
    assert {*trusted.seconds} == {"tcp", "tls", "http"}
    for course, reason in ((unknown, "unable to get local issuer"), (misnamed, "mismatch")):
        assert (course.status, course.certificate) == (200, issued.der)
        assert reason in course.untrusted
    assert (only_tls.status, only_tls.failed_at) == (0, None)


async def test_a_repeated_request_has_no_credential(tmp_path: Path) -> None:
    heads: list[str] = []

    def script(head: str) -> bytes:
        heads.append(head)
        return OK

    issued = ForeignCertificate.root("Test CA").issue("app", dns=("app.example.com",))
    fields = (("authorization", "Bearer 0t_m_x"), ("X-A", "b"))
    async with scripted(script, tls=server_tls(issued, tmp_path)) as port:
        target = at(port, tls=ssl.create_default_context(), server_name="app.example.com")
        course = await attempt(replace(target, fields=fields))
    assert (course.status, bool(course.untrusted)) == (200, True)
    assert "X-A: b\r\n" in heads[0]
    assert "0t_m_x" not in heads[0]
