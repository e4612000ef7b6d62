import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.binary import (
    MAX_REASON_BYTES,
    MAX_UPSTREAM_BYTES,
    pack_head,
    pack_open,
    pack_reason,
    pack_report,
    unpack_head,
    unpack_open,
    unpack_reason,
    unpack_report,
)
from zerotrust.tunnel.codes import Code

visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
sizes = st.integers(0, 2**64 - 1)


@given(st.integers(0, 255), st.integers(0, 255), sizes, visible, visible, st.binary())
def test_open_comes_back(
    kind: int, flags: int, length: int, service: str, request_id: str, block: bytes
) -> None:
    payload = pack_open(
        kind,
        length,
        flags=flags,
        service=service.encode(),
        request_id=request_id.encode(),
        block=block,
    )
    found = unpack_open(payload)
    assert (found.kind, found.flags, found.length) == (kind, flags, length)
    assert (found.service, found.request_id, found.block) == (service, request_id, block)


@given(st.binary(max_size=200))
@example(b"\0" * 15)
@example(b"\0" * 16)
@example(b"\0\0\xff\xff" + b"\0" * 12)
def test_any_bytes_are_an_open_or_a_broken_rule(payload: bytes) -> None:
    try:
        request = unpack_open(payload)
    except RemoteProtocolError:
        return
    assert request.service.isascii() and request.request_id.isascii()


@pytest.mark.parametrize("name", [b"a\r\nX-Forwarded-For: 1", b"\x1b[31m", b"\x00", b"\xc3\xa9"])
def test_service_and_request_id_are_visible_ascii(name: bytes) -> None:
    """Both go into logs, and the request id into a field of the request."""
    for service, request_id in ((name, b"r"), (b"s", name)):
        payload = pack_open(0, 0, flags=0, service=service, request_id=request_id, block=b"")
        with pytest.raises(RemoteProtocolError):
            unpack_open(payload)


@given(st.integers(0, 255), st.integers(0, 255), sizes, st.binary())
def test_head_comes_back(kind: int, flags: int, length: int, block: bytes) -> None:
    assert unpack_head(pack_head(kind, flags, length, block)) == (kind, flags, length, block)


@given(st.binary(max_size=11))
def test_a_short_head_is_a_broken_rule(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack_head(payload)


@given(st.sampled_from(Code), st.text(max_size=300))
@example(Code.INTERNAL, "\udcff: a file name that is no UTF-8")
@example(Code.INTERNAL, "x" + "é" * 200)
def test_a_reason_comes_back_as_far_as_it_fits(code: Code, reason: str) -> None:
    payload = pack_reason(code, reason)
    assert len(payload) <= 2 + MAX_REASON_BYTES
    payload[2:].decode()
    back, text = unpack_reason(payload)
    assert back is code
    assert text.isprintable()
    if reason.isprintable() and len(reason.encode()) <= MAX_REASON_BYTES:
        assert text == reason


@given(st.binary(max_size=400))
@example(b"")
@example(b"\0")
@example(b"\xff\xff\x1b[31m\r\n\xff")
def test_any_bytes_are_a_reason_or_a_broken_rule(payload: bytes) -> None:
    try:
        code, reason = unpack_reason(payload)
    except RemoteProtocolError:
        assert len(payload) < 2
    else:
        assert isinstance(code, Code) and reason.isprintable() and len(reason) <= MAX_REASON_BYTES


@given(
    st.floats(-1, 1e6), st.floats(-1, 1e6), st.text("abc.:/[]", max_size=300), st.binary(max_size=9)
)
def test_a_report_comes_back_beside_its_head(
    queued: float, backend: float, upstream: str, block: bytes
) -> None:
    payload = pack_head(1, 0, 7, block, pack_report(queued, backend, upstream.encode()))
    assert unpack_head(payload) == (1, 0, 7, block)
    found = unpack_report(payload)
    assert found is not None
    assert found[2] == upstream[:MAX_UPSTREAM_BYTES]
    for seconds, microseconds in zip((queued, backend), found, strict=False):
        assert microseconds == min(max(int(seconds * 1e6), 0), 2**32 - 1)


def test_a_head_without_a_report_has_none() -> None:
    assert unpack_report(pack_head(1, 0, 7, b"HTTP/1.1 200 OK\r\n")) is None


@given(st.binary(min_size=12, max_size=300))
@example(b"\0\0\0\x09" + b"\0" * 8 + b"\xff")
@example(b"\0\0\0\x09" + b"\0" * 16 + b"\x1b")
def test_any_bytes_are_a_report_or_none(payload: bytes) -> None:
    report = unpack_report(payload)
    if report is not None:
        assert report[2].isprintable()
        assert len(report[2]) <= MAX_UPSTREAM_BYTES
