"""Tests of zerotrust.tunnel.client_hello, with messages of OpenSSL."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.tunnel.client_hello import (
    HEADER_BYTES,
    MAX_RECORD_BYTES,
    record_bytes,
    wanted_worker,
)
from zerotrust.tunnel.codes import ALPN, WORKER_ALPN


def hello(*names: str) -> bytes:
    """Return the first record of a client that offers these protocols."""
    context = ssl.create_default_context()
    if names:
        context.set_alpn_protocols(list(names))
    output = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), output, server_hostname="tunnel.example.com")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return output.read()


@pytest.mark.parametrize(
    ("names", "worker"),
    [
        ((), 0),
        ((ALPN,), 0),
        (("http/1.1",), 0),
        ((ALPN, f"{WORKER_ALPN}3"), 3),
        ((f"{WORKER_ALPN}63", ALPN), 63),
        ((ALPN, f"{WORKER_ALPN}"), 0),
        ((ALPN, f"{WORKER_ALPN}x"), 0),
        ((ALPN, f"{WORKER_ALPN}123"), 0),
    ],
)
def test_a_client_names_its_worker(names: tuple[str, ...], worker: int) -> None:
    record = hello(*names)
    assert record_bytes(record[:HEADER_BYTES]) == len(record)
    assert wanted_worker(record) == worker


@pytest.mark.parametrize(
    "header",
    [b"GET /", b"\x16\x02\x01\x00\x10", b"\x17\x03\x03\x00\x10", b"\x16\x03\x01\xff\xff"],
)
def test_other_bytes_begin_no_hello(header: bytes) -> None:
    assert record_bytes(header) == 0
    assert record_bytes(b"\x16\x03\x01" + MAX_RECORD_BYTES.to_bytes(2, "big")) > MAX_RECORD_BYTES


def test_another_handshake_message_names_none() -> None:
    record = bytearray(hello(ALPN, f"{WORKER_ALPN}3"))
    record[HEADER_BYTES] = 2
    assert wanted_worker(bytes(record)) == 0


@given(st.data())
def test_a_damaged_hello_is_no_fault(data: st.DataObject) -> None:
    record = bytearray(hello(ALPN, f"{WORKER_ALPN}3"))
    for _ in range(data.draw(st.integers(0, 3))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(record)))
    assert 0 <= wanted_worker(bytes(record[:cut])) <= 99


@given(st.binary(max_size=200))
def test_strange_bytes_are_no_fault(record: bytes) -> None:
    assert wanted_worker(record) == 0
