"""Tests of zerotrust.agent.jwks."""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.issuer import Issuer, reply
from tests.support.waiting import eventually
from zerotrust.agent import jwks as module
from zerotrust.agent.jwks import MAX_BYTES, MAX_STALE, REFRESH, CachedJwks, JwksFetcher
from zerotrust.model.authentication import KeySource
from zerotrust.net.tasks import Tasks

SOURCE = KeySource("https://issuer.example/keys", "RS256")


@pytest.fixture(scope="module")
def documents() -> list[bytes]:
    """Two documents with a key each."""
    found = []
    for kid in ("1", "2"):
        issuer = Issuer()
        issuer.add_key(kid)
        found.append(issuer.document())
    return found


def kids(keys: dict[str, Any] | None) -> list[str]:
    return [key["kid"] for key in keys["keys"]] if keys is not None else []


# What is cached


def test_keys_are_added_changed_and_kept(documents: list[bytes]) -> None:
    cached = CachedJwks(SOURCE)
    assert cached.keys is None
    assert cached.fetched(documents[0], 0.0)
    assert not cached.fetched(documents[0], 60.0)
    assert not cached.fetched(None, 120.0)
    assert kids(cached.keys) == ["1"]
    assert cached.fetched(documents[1], 180.0)
    assert kids(cached.keys) == ["2"]
    assert cached.pause == REFRESH


def test_the_last_keys_stay_valid_for_a_day(documents: list[bytes]) -> None:
    cached = CachedJwks(SOURCE)
    assert not cached.failed(0.0)
    cached.fetched(documents[0], 100.0)
    cached.fetched(None, 1000.0)
    assert not cached.failed(1000.0 + MAX_STALE - 1)
    assert kids(cached.keys) == ["1"]
    assert cached.failing
    assert cached.failed(1000.0 + MAX_STALE)
    assert cached.keys is None
    assert not cached.failed(1000.0 + MAX_STALE + 60)
    assert cached.fetched(documents[0], 2e5)


def test_a_document_that_cannot_be_used_changes_nothing(documents: list[bytes]) -> None:
    cached = CachedJwks(SOURCE)
    cached.fetched(documents[0], 0.0)
    with pytest.raises(ValueError, match="JWKS"):
        cached.fetched(b'{"keys": []}', 60.0)
    assert kids(cached.keys) == ["1"]


def test_retries_back_off() -> None:
    cached = CachedJwks(SOURCE)
    pauses = []
    for _ in range(9):
        cached.failed(0.0)
        pauses.append(cached.pause)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


# What is fetched


class Harness:
    """A fetcher that refreshes after 20 ms, with the changes that it reported."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self.changes: list[KeySource] = []
        self.fetcher = JwksFetcher(self.tasks, changed=self.changes.append)

    def ids(self, source: KeySource) -> list[str]:
        return kids(self.fetcher.documents.get(source))


@pytest.fixture
async def harness(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    monkeypatch.setattr(module, "REFRESH", 0.02)
    monkeypatch.setattr(module, "RETRY_FIRST", 0.02)
    harness = Harness()
    yield harness
    await harness.tasks.close()


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context for localhost, whose authority this process trusts."""
    certificate, key = self_signed(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "issuer.crt", folder / "issuer.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.mark.anyio
async def test_over_https_with_a_certificate_that_is_verified(
    harness: Harness, trusted: ssl.SSLContext
) -> None:
    async with Issuer(tls=trusted) as issuer:
        issuer.add_key("1")
        source = KeySource(issuer.url, "RS256")
        harness.fetcher.fetch_from([source])
        await eventually(lambda: harness.ids(source) == ["1"], "the keys are fetched")
        other = KeySource(issuer.url.replace("localhost", "127.0.0.1"), "RS256")
        with capture_logs() as logs:
            harness.fetcher.fetch_from([source, other])
            await eventually(lambda: logs, "a certificate for another name is told of")
        assert "ertificate" in logs[0]["reason"]
        assert other not in harness.fetcher.documents


@pytest.mark.anyio
async def test_an_untrusted_certificate_is_refused(
    harness: Harness, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with Issuer(tls=trusted) as issuer:
        issuer.add_key("1")
        with capture_logs() as logs:
            harness.fetcher.fetch_from([KeySource(issuer.url, "RS256")])
            await eventually(lambda: logs, "it is told of")
        assert "CERTIFICATE_VERIFY_FAILED" in logs[0]["reason"]
        assert not issuer.asked
        assert not harness.fetcher.documents


@pytest.mark.anyio
async def test_added_and_withdrawn_keys_take_effect(harness: Harness) -> None:
    async with Issuer() as issuer:
        issuer.add_key("1")
        source = KeySource(issuer.url, "RS256")
        harness.fetcher.fetch_from([source])
        await eventually(lambda: len(issuer.asked) > 3, "it is asked again and again")
        assert harness.ids(source) == ["1"]
        assert harness.changes == [source], "who has nothing new is not listened to"
        assert all("if-none-match" in fields for fields in issuer.asked[1:])
        issuer.add_key("2")
        await eventually(lambda: sorted(harness.ids(source)) == ["1", "2"], "a new key is known")
        issuer.remove_key("1")
        await eventually(lambda: harness.ids(source) == ["2"], "an old key is forgotten")
        assert len(harness.changes) == 3


def redirect(_: dict[str, str]) -> bytes:
    return reply(302, b"", "Location: http://169.254.169.254/latest/meta-data")


def endless(_: dict[str, str]) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * (MAX_BYTES + 1)


def compressed(_: dict[str, str]) -> bytes:
    return reply(200, gzip.compress(b'{"keys": []}'), "Content-Encoding: gzip")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (redirect, "redirects are not followed"),
        (endless, "larger than 256 KiB"),
        (compressed, "compressed"),
        (lambda _: reply(500, b"{}"), "status 500"),
        (lambda _: reply(200, b"<html>"), "Expecting value"),
        (lambda _: reply(200, b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'), "no key for RS256"),
        (lambda _: b"nonsense\r\n\r\n", "illegal"),
        (lambda _: b"", "disconnected"),
        (lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", "peer closed"),
    ],
)
async def test_invalid_answers_change_nothing_and_are_logged_once(
    harness: Harness, answer: Callable[[dict[str, str]], bytes], reason: str
) -> None:
    async with Issuer() as issuer:
        issuer.add_key("1")
        source = KeySource(f"{issuer.url}?secret=x", "RS256")
        with capture_logs() as logs:
            harness.fetcher.fetch_from([source])
            await eventually(lambda: harness.ids(source) == ["1"], "the keys are fetched")
            issuer.answer, good = answer, issuer.answer
            asked = len(issuer.asked)
            await eventually(lambda: len(issuer.asked) > asked + 3, "it is asked again and again")
            assert harness.ids(source) == ["1"]
            issuer.answer = good
            issuer.add_key("2")
            await eventually(lambda: len(harness.ids(source)) == 2, "it is well again")
        assert [entry["event"] for entry in logs] == [
            "keys fetched",
            "cannot fetch keys",
            "keys fetched",
        ]
        assert reason in logs[1]["reason"]
        assert logs[1]["effect"] == "the last keys stay valid"
        assert "secret" not in json.dumps(logs)
        assert harness.changes == [source, source]


@pytest.mark.anyio
async def test_a_304_without_cached_keys_is_an_error(harness: Harness) -> None:
    async with Issuer() as issuer:
        issuer.answer = lambda _: reply(304, b"")
        with capture_logs() as logs:
            harness.fetcher.fetch_from([KeySource(issuer.url, "RS256")])
            await eventually(lambda: logs, "it is told of")
        assert logs[0]["reason"] == "status 304"


@pytest.mark.anyio
async def test_a_silent_issuer_times_out(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    released = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await released.wait()
        finally:  # a transport that is left open would keep uvloop from closing
            writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    with capture_logs() as logs:
        harness.fetcher.fetch_from(
            [KeySource(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", "RS256")]
        )
        await eventually(lambda: logs, "it is given up")
    assert "no complete answer within" in logs[0]["reason"] or "Timeout" in logs[0]["reason"]
    assert logs[0]["effect"] == "requests that need them are refused"
    released.set()
    server.close()


@pytest.mark.anyio
async def test_keys_that_are_too_old_are_withdrawn(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_STALE", 0.2)
    async with Issuer() as issuer:
        issuer.add_key("1")
        source = KeySource(issuer.url, "RS256")
        harness.fetcher.fetch_from([source])
        await eventually(lambda: harness.ids(source) == ["1"], "the keys are fetched")
        issuer.answer = lambda _: reply(503, b"")
        await eventually(
            lambda: source not in harness.fetcher.documents, "they do not hold for ever"
        )
        assert harness.changes == [source, source]


@pytest.mark.anyio
async def test_keys_of_unused_sources_are_dropped(harness: Harness) -> None:
    async with Issuer() as issuer:
        issuer.add_key("1")
        source = KeySource(issuer.url, "RS256")
        harness.fetcher.fetch_from([source])
        await eventually(lambda: harness.ids(source) == ["1"], "the keys are fetched")
        harness.fetcher.fetch_from([source])
        assert harness.ids(source) == ["1"], "a reload leaves them alone"
        harness.fetcher.fetch_from([])
        assert not harness.fetcher.documents
        await eventually(lambda: not harness.tasks.running, "nothing is asked for any more")
