"""Tests of zerotrust.server.proxy.proxy_trust."""

import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from zerotrust.errors import StateError
from zerotrust.http.head import RequestFields, parse_request
from zerotrust.pki import keys
from zerotrust.server.proxy.proxy_trust import ProxyTrust, load_proxy_secret

SECRET = "s" * 43
SAID = ("X-Real-IP: 203.0.113.7", "X-Forwarded-Proto: https")
BELIEVED = (b"203.0.113.7", b"https", True)
CLIENT = (b"127.0.0.1", b"http", False)


def fields(*lines: str) -> RequestFields:
    return parse_request("\r\n".join(["GET / HTTP/1.1", "Host: a", *lines, "", ""]).encode()).fields


@pytest.mark.parametrize(
    ("peer", "networks", "shown", "found"),
    [
        ("127.0.0.1", [], [], CLIENT),
        ("127.0.0.1", ["127.0.0.0/8"], [], BELIEVED),
        ("127.0.0.1", ["10.0.0.0/8"], [], CLIENT),
        ("127.0.0.1", [], [SECRET], BELIEVED),
        ("192.0.2.1", ["127.0.0.0/8"], [SECRET], BELIEVED),
        ("127.0.0.1", [], [SECRET[:-1]], CLIENT),
        ("127.0.0.1", [], ["t" * 43], CLIENT),
        ("127.0.0.1", [], [""], CLIENT),
        ("127.0.0.1", [], [SECRET, SECRET], CLIENT),
        ("127.0.0.1", ["127.0.0.0/8"], ["t" * 43], BELIEVED),
        (None, [], [], BELIEVED),
        (None, [], ["t" * 43], BELIEVED),
    ],
)
def test_who_is_believed(
    peer: str | None, networks: list[str], shown: list[str], found: tuple[bytes, bytes, bool]
) -> None:
    trust = ProxyTrust(networks, SECRET)
    sent = [f"X-0Trust-Proxy-Secret: {one}" for one in shown]
    assert trust.client(peer, fields(*SAID, *sent)) == found


def test_a_proxy_that_says_nothing_about_its_client() -> None:
    secret = f"X-0Trust-Proxy-Secret: {SECRET}"
    assert ProxyTrust([], SECRET).client("192.0.2.1", fields(secret)) == (
        b"192.0.2.1",
        b"https",
        True,
    )


@pytest.mark.parametrize(
    "name", ["X_0Trust_Proxy_Secret", "X-0Trust-Proxy_Secret", "x+0trust.proxy-secret"]
)
def test_the_secret_in_another_spelling_proves_nothing(name: str) -> None:
    shown = fields(*SAID, f"{name}: {SECRET}")
    assert ProxyTrust([], SECRET).client("127.0.0.1", shown) == CLIENT
    assert SECRET.encode() not in shown.lines + shown.spoofable


def test_no_backend_and_no_log_sees_a_secret() -> None:
    for secret in (SECRET, "wrong" * 10):
        shown = fields(*SAID, "X-A: 1", f"x-0trust-proxy-SECRET: {secret}")
        assert shown.lines == b"X-A: 1\r\n"
        assert shown.spoofable == b""
        trust = ProxyTrust([], SECRET)
        with capture_logs() as logs:
            for _ in range(3):
                trust.client("127.0.0.1", shown)
        assert secret not in str(logs)
        assert [line["event"] for line in logs] == (
            [] if secret == SECRET else ["a proxy sent a wrong secret, and counts as a client"]
        )


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "proxy-secret"
    before = os.umask(0)
    try:
        made = load_proxy_secret(path)
        assert made.is_new
    finally:
        os.umask(before)
    assert len(made.text) == 43
    assert made.text not in repr(made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == made.text, "no line end: a proxy sends the file as it is"
    again = load_proxy_secret(path)
    assert (again.text, again.is_new) == (made.text, False)
    path.unlink()
    assert load_proxy_secret(path).text != made.text


def test_two_processes_make_one_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "proxy-secret"
    write = keys.write

    def lose(path: Path, data: bytes, *, mode: int, replace: bool) -> None:
        write(path, b"w" * 43, mode=mode, replace=replace)
        write(path, data, mode=mode, replace=replace)

    monkeypatch.setattr(keys, "write", lose)
    assert load_proxy_secret(path).text == "w" * 43


def test_a_secret_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "proxy-secret"
    path.write_text(f"{'0' * 32}\n")
    assert load_proxy_secret(path).text == "0" * 32


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"a b" * 20, b"\xff" * 40, b"a" * 2000])
def test_a_damaged_secret_is_named_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "proxy-secret"
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"proxy-secret: no secret of .*; remove it") as raised:
        load_proxy_secret(path)
    assert "aaa" not in str(raised.value)


def test_a_secret_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StateError, match="Is a directory"):
        load_proxy_secret(tmp_path / "folder")
    with pytest.raises(StateError, match=r"none/proxy-secret: cannot write"):
        load_proxy_secret(tmp_path / "none" / "proxy-secret")
