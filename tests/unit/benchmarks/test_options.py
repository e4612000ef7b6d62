"""Tests of benchmarks.options."""

import pytest

from benchmarks.load.jobs import Endpoint
from benchmarks.options import Peer, parse_peers
from zerotrust.errors import BenchError


def test_a_peer_has_a_web_and_a_socket_end() -> None:
    found = parse_peers(
        ["frp=https://app.localhost:7000", "frp=ws://127.0.0.1:7001", "chisel=http://10.0.0.1"],
        9000,
    )
    assert found == (
        Peer(
            name="frp",
            web=Endpoint(host="app.localhost", port=7000, tls=True),
            socket=Endpoint(host="127.0.0.1", port=7001),
        ),
        Peer(name="chisel", web=Endpoint(host="10.0.0.1", port=80, address="10.0.0.1")),
    )


@pytest.mark.parametrize(
    "text",
    [
        "frp",
        "=http://a",
        "frp=ftp://a",
        "frp=http://",
        "frp=http://a:b",
        "frp=http://[1",
        "frp=a:1",
    ],
)
def test_what_is_no_peer(text: str) -> None:
    with pytest.raises(BenchError, match="--peer"):
        parse_peers([text], 9000)


def test_a_peer_has_to_know_the_backend() -> None:
    with pytest.raises(BenchError, match="add --backend PORT"):
        parse_peers(["frp=http://127.0.0.1:1"], None)


@pytest.mark.parametrize("port", [0, -1, 65534, 70000])
def test_three_ports_are_needed(port: int) -> None:
    with pytest.raises(BenchError, match="port numbers"):
        parse_peers([], port)
    assert parse_peers([], 65533) == ()
