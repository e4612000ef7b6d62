"""Tests of zerotrust.http.websocket_handshake."""

import base64

import pytest
from websockets.utils import accept_key

from zerotrust.errors import HttpError
from zerotrust.http.head import parse_request, parse_response
from zerotrust.http.websocket_handshake import (
    KEY_BYTES,
    TUNNEL_PATH,
    refusal,
    request,
    response_block,
)

KEY = bytes(range(KEY_BYTES))
REQUEST = request(b"tunnel.example.com", KEY)


def answer(asked: bytes = REQUEST) -> bytes:
    return response_block(parse_request(asked)) + b"Connection: Upgrade\r\n\r\n"


def test_client_and_server_agree() -> None:
    assert refusal(parse_response(answer()), KEY) is None
    accept = accept_key(base64.b64encode(KEY).decode()).encode()
    assert b"\r\nSec-WebSocket-Accept: %b\r\n" % accept in answer()


def test_the_names_of_fields_may_have_any_case() -> None:
    # Go's HTTP library writes Sec-Websocket-Key.
    asked = REQUEST.replace(b"Sec-WebSocket", b"Sec-Websocket")
    assert (
        refusal(parse_response(answer(asked).replace(b"Sec-WebSocket", b"sec-websocket")), KEY)
        is None
    )


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET", b"POST", 426),
        (b"Upgrade: websocket", b"Upgrade: other", 426),
        (b"Connection: Upgrade\r\n", b"", 426),
        (b"Version: 13", b"Version: 12", 426),
        (b"0trust-tunnel-v1", b"chat", 426),
        (base64.b64encode(KEY), b"c2hvcnQ=", 400),
        (base64.b64encode(KEY), b"not base64", 400),
    ],
)
def test_other_requests_are_refused(old: bytes, new: bytes, status: int) -> None:
    assert old in REQUEST
    with pytest.raises(HttpError) as refused:
        response_block(parse_request(REQUEST.replace(old, new)))
    assert refused.value.reply == status


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"101 Switching Protocols", b"404 Not Found", "answers with status 404"),
        (b"Upgrade: websocket", b"Upgrade: other", "does not speak WebSocket"),
        (b"Accept: ", b"Accept: x", "does not speak WebSocket"),
        (b"Sec-WebSocket-Protocol: 0trust-tunnel-v1\r\n", b"", "is no server of 0trust"),
    ],
)
def test_other_responses_are_refused(old: bytes, new: bytes, reason: str) -> None:
    assert old in answer()
    found = refusal(parse_response(answer().replace(old, new)), KEY)
    assert found is not None and found.startswith(reason)


def test_the_query_names_a_further_worker() -> None:
    assert parse_request(REQUEST).target == TUNNEL_PATH
    asked = request(b"tunnel.example.com", KEY, worker=3)
    assert parse_request(asked).target == b"/.0trust/tunnel?worker=3"
