"""Tests of zerotrust.http.parse_cache."""

import pytest

from zerotrust.errors import HttpError
from zerotrust.http.head import parse_request, parse_response
from zerotrust.http.head_block import check_request_block
from zerotrust.http.parse_cache import MAX_BYTES, MAX_HEADS, recent


class Counted:
    def __init__(self) -> None:
        self.calls = 0
        self.read = recent(self._read)

    def _read(self, head: bytes) -> list[bytes]:
        self.calls += 1
        return [head]


def test_the_same_head_is_parsed_once() -> None:
    counted = Counted()
    assert counted.read(b"a" * MAX_BYTES) is counted.read(b"a" * MAX_BYTES)
    assert counted.read(b"b") == [b"b"]
    assert counted.calls == 2


def test_a_long_head_is_not_cached() -> None:
    counted = Counted()
    for _ in range(2):
        counted.read(b"a" * (MAX_BYTES + 1))
    assert counted.calls == 2


def test_heads_in_use_stay_and_others_are_evicted() -> None:
    counted = Counted()
    used = counted.read(b"used")
    for number in range(4 * MAX_HEADS):
        counted.read(b"%d" % number)
        assert counted.read(b"used") is used
    counted.read(b"0")
    assert counted.calls == 4 * MAX_HEADS + 2


FIELDS = b"Host: a.example\r\nAccept: */*\r\n"


def test_two_requests_with_the_same_fields_are_two_requests() -> None:
    first = parse_request(b"GET /one HTTP/1.1\r\n" + FIELDS + b"\r\n")
    second = parse_request(b"PUT /two HTTP/1.1\r\n" + FIELDS + b"\r\n")
    assert (first.method, first.target) == (b"GET", b"/one")
    assert (second.method, second.target) == (b"PUT", b"/two")
    assert first.fields is second.fields


def test_the_http_version_is_part_of_the_cache_key() -> None:
    assert parse_request(b"GET / HTTP/1.1\r\n" + FIELDS + b"\r\n").fields.keep_alive
    assert not parse_request(b"GET / HTTP/1.0\r\n" + FIELDS + b"\r\n").fields.keep_alive


def test_the_host_of_an_absolute_target_stays_with_its_request() -> None:
    elsewhere = parse_request(b"GET http://b.example/ HTTP/1.1\r\n" + FIELDS + b"\r\n")
    assert elsewhere.fields.host == "b.example"
    assert parse_request(b"GET / HTTP/1.1\r\n" + FIELDS + b"\r\n").fields.host == "a.example"


def test_errors_are_not_cached() -> None:
    for _ in range(2):
        with pytest.raises(HttpError) as request:
            parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        assert request.value.reply == 400
        with pytest.raises(HttpError) as response:
            parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")
        assert response.value.reply == 502
        assert not check_request_block(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\n")
