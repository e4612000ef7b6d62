"""Tests of zerotrust.http.ping."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.http import ping

NONCE = b"00112233445566778899aabbccddeeff"
ROOT = bytes(range(32))


@pytest.mark.parametrize(
    "target",
    [
        b"/.0trust/ping",
        b"/.0trust/ping?nonce=",
        b"/.0trust/ping?nonce=" + NONCE[:-1],
        b"/.0trust/ping?nonce=" + NONCE.upper(),
        b"/.0trust/ping?nonce=" + NONCE + b"&a=b",
        b"/ping?nonce=" + NONCE,
        NONCE,
    ],
)
def test_other_requests_are_no_pings(target: bytes) -> None:
    assert ping.nonce_of(target) is None


def test_the_answer_proves_each_root() -> None:
    assert ping.nonce_of(ping.PING_PREFIX + NONCE) == NONCE
    body = ping.answer_body([ROOT, ROOT[::-1]], "app.example.com", NONCE, lines=b"", unix_time=1.5)
    answer = ping.parse_answer(body)
    assert answer is not None
    assert answer.proofs == [
        ping.proof(ROOT, "app.example.com", NONCE),
        ping.proof(ROOT[::-1], "app.example.com", NONCE),
    ]
    assert (answer.proxies, answer.unix_time) == ([], 1.5)
    others = {ping.proof(ROOT, "b.example.com", NONCE), ping.proof(ROOT, "a", NONCE[::-1])}
    assert not others & {*answer.proofs}
    assert len(body) < ping.MAX_ANSWER


def test_proxies_are_known_by_their_fields() -> None:
    lines = (
        b"Accept: */*\r\nCF-Ray: 8a\r\ncdn-loop: cloudflare\r\nVia: 1.1 Caddy\r\nCf-Ray: 9\r\n"
        b"X-Via: 1\r\n"
    )
    assert ping.proxies_in(lines) == ["cf-ray", "cdn-loop"]
    assert ping.proxies_in(b"Via: 2.0 Caddy\r\nVia: 1.1 varnish\r\n") == ["via"]
    assert ping.proxies_in(b"") == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b"[" * 5000,
        b'{"proofs": 1, "proxies": [], "time": 1}',
        b'{"proofs": [], "proxies": {}, "time": 1}',
        b'{"proofs": [], "proxies": [], "time": "now"}',
        b'{"proofs": [], "proxies": [], "time": true}',
    ],
)
def test_other_bodies_are_no_answers(body: bytes) -> None:
    assert ping.parse_answer(body) is None


@given(st.binary())
def test_no_body_breaks_the_reader(body: bytes) -> None:
    ping.parse_answer(body)


def test_texts_of_an_answer_are_bounded() -> None:
    found = {"proofs": ["a"] * 99, "proxies": ["é", "x" * 99, *(["y"] * 99)], "time": 0}
    answer = ping.parse_answer(json.dumps(found).encode())
    assert answer is not None
    assert (answer.proofs, answer.proxies) == (["a"] * ping.MAX_ROOTS, ["y"] * 16)
