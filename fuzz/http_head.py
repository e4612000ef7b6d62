"""Fuzz target: any head is parsed or refused; what is forwarded is exactly one head.

Run: python fuzz/http_head.py -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["zerotrust.http"]):
    from zerotrust.errors import HttpError
    from zerotrust.http.body import Kind
    from zerotrust.http.head import (
        MAX_REQUEST_FIELDS,
        MAX_REQUEST_HEAD_BYTES,
        find_head_end,
        parse_request,
        parse_response,
    )
    from zerotrust.http.head_block import (
        check_request_block,
        check_response_block,
        check_trailers,
        request_block,
        request_framing_lines,
        response_block,
        response_framing_lines,
    )
    from zerotrust.http.lenient_head import read_response_head


def one_request(data: bytes) -> None:
    try:
        head = parse_request(data)
    except HttpError:
        return
    assert data.endswith(b"\r\n\r\n")
    assert data.index(b"\r\n\r\n") == len(data) - 4
    block = request_block(head, client=b"::1", proto=b"https")
    assert check_request_block(block, upgrade=head.fields.upgrade is not None), block
    if block.count(b"\r\n") > MAX_REQUEST_FIELDS:
        # With our own fields there are more than a client may send; backends have their own limits.
        return
    again = parse_request(
        block
        + request_framing_lines(
            Kind.NONE, 0, upgrade=bool(head.fields.upgrade), te=head.fields.te_trailers
        )
    )
    assert (
        again.method,
        again.target,
        again.fields.host,
        again.fields.lines,
        again.fields.upgrade,
    ) == (
        head.method,
        head.target,
        head.fields.host,
        head.fields.lines,
        head.fields.upgrade,
    )


def one_response(data: bytes) -> None:
    try:
        head = parse_response(data)
    except HttpError as error:
        assert error.reply == 502
        return
    block = response_block(head)
    assert check_response_block(block) == head.status, block
    again = parse_response(
        block + response_framing_lines(Kind.NONE, 0, close=False, upgrade=head.status == 101)
    )
    assert (again.status, again.reason, again.lines) == (head.status, head.reason, head.lines)


def one_odd_response(data: bytes) -> None:
    """Check that a repaired head leaves strict, and that a strict one is not repaired."""
    deviations = []
    try:
        end, head = read_response_head(data, 0, lambda deviation, name: deviations.append(name))
    except HttpError:
        return
    if head is None:
        return
    block = response_block(head)
    assert check_response_block(block) == head.status, block
    try:
        strict_end, strict = read_response_head(data, 0, None)
    except HttpError:
        return
    assert not deviations and strict is not None
    assert (end, block) == (strict_end, response_block(strict))


def one_block(data: bytes) -> None:
    """Check that an accepted block is exactly one head, without a field that delimits the body."""
    requests = check_request_block(data), check_request_block(data, upgrade=True)
    if any(requests) or check_response_block(data) or check_trailers(data):
        assert b"\r\n\r\n" not in data
        assert data.count(b"\n") == data.count(b"\r") == data.count(b"\r\n")
        names = {line.partition(b":")[0].lower() for line in data.split(b"\r\n")[1:]}
        assert not names & {b"connection", b"content-length", b"transfer-encoding", b"keep-alive"}


def one_end(data: bytes) -> None:
    try:
        end = find_head_end(data, 0)
    except HttpError:
        return
    assert end == -1 or (data[end - 4 : end] == b"\r\n\r\n" and end <= MAX_REQUEST_HEAD_BYTES)


def test_one_input(data: bytes) -> None:
    one_request(data)
    one_request(b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n\r\n")
    one_response(data)
    one_response(b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n")
    one_odd_response(data)
    one_odd_response(b"HTTP/1.1 200 OK\n" + data + b"\n\n")
    one_block(data)
    one_end(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
