"""Tests of zerotrust.pki.join_token."""

import base64
import json
import traceback
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from tests.support.authorities import ForeignCertificate
from zerotrust.errors import PkiError
from zerotrust.pki.join_token import MAX_CHARACTERS, PREFIX, JoinToken, fingerprint, parse

PRINT = "ab" * 32
LINE = JoinToken(server="tunnel.example.com:8443", secret="s3cret-token", fingerprint=PRINT)
GOOD: dict[str, Any] = {"server": LINE.server, "token": LINE.secret, "fingerprint": PRINT}


def encoded(said: object) -> str:
    return PREFIX + base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()


TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=512)
SERVERS = st.sampled_from(
    ["tunnel.example.com:8443", "tunnel.example.com", "192.0.2.7:1", "[2001:db8::7]:8443"]
)


@given(SERVERS, TOKENS, st.binary(min_size=32, max_size=32))
def test_what_is_said_comes_back(server: str, token: str, digest: bytes) -> None:
    line = JoinToken(server=server, secret=token, fingerprint=digest.hex())
    assert parse(str(line)) == line


def test_white_space_does_not_matter() -> None:
    text = str(LINE)
    assert parse(f"  {text[:40]}\r\n {text[40:]}\n") == LINE


def test_more_is_read_over() -> None:
    assert parse(encoded({**GOOD, "more": [1]})) == LINE
    assert parse(encoded({**GOOD, "server": "tunnel.example.com"})).address == (
        "tunnel.example.com",
        8443,
    )


def test_every_loss_is_noticed() -> None:
    text = str(LINE)
    for length in range(len(text)):
        with pytest.raises(PkiError):
            parse(text[:length])


@pytest.mark.parametrize(
    "said",
    [
        [],
        {},
        None,
        {**GOOD, "server": ""},
        {**GOOD, "server": ":8443"},
        {**GOOD, "server": "a:b"},
        {**GOOD, "server": "a:0"},
        {**GOOD, "server": "a:65536"},
        {**GOOD, "server": "user@host:1"},
        {**GOOD, "server": "host/path"},
        {**GOOD, "server": "a b"},
        {**GOOD, "server": "a\x1b[31m"},
        {**GOOD, "server": 7},
        {**GOOD, "token": ""},
        {**GOOD, "token": "a\nb"},
        {**GOOD, "token": "x" * 513},
        {**GOOD, "token": None},
        {**GOOD, "fingerprint": PRINT[:-1]},
        {**GOOD, "fingerprint": PRINT.upper()},
        {**GOOD, "fingerprint": PRINT + "\n"},
        {"server": LINE.server, "token": LINE.secret},
    ],
)
def test_what_is_not_whole(said: object) -> None:
    with pytest.raises(PkiError, match="is incomplete; copy all of it"):
        parse(encoded(said))


@pytest.mark.parametrize(
    "text", ["", "nonsense", PREFIX[:-1], "https://tunnel.example.com", "x" * (MAX_CHARACTERS + 1)]
)
def test_what_is_no_line(text: str) -> None:
    with pytest.raises(PkiError, match="not a join token"):
        parse(text)


def test_a_line_of_another_version() -> None:
    with pytest.raises(PkiError, match="another version"):
        parse("0trust-join-2.abc")


@given(st.text(max_size=200))
def test_nothing_else_is_raised(text: str) -> None:
    with pytest.raises(PkiError):
        parse(PREFIX + text)


def test_the_token_is_not_shown() -> None:
    assert LINE.secret not in repr(LINE)
    broken = encoded({**GOOD, "fingerprint": "?"})[:-3]
    for text in (
        broken,
        PREFIX + base64.b64encode(b'{"token": "s3cret-token", ').decode().rstrip("="),
    ):
        try:
            parse(text)
        except PkiError as error:
            assert LINE.secret not in "".join(traceback.format_exception(error))
        else:
            pytest.fail("it was taken")


def test_the_fingerprint_is_of_the_whole_certificate() -> None:
    certificate = ForeignCertificate.root().certificate
    assert fingerprint(certificate) == certificate.fingerprint(hashes.SHA256()).hex()
    assert len(fingerprint(certificate)) == 64
