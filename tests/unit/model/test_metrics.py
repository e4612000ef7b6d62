"""Tests of zerotrust.model.metrics."""

import pytest
from pydantic import ValidationError

from zerotrust.model.metrics import Metrics


def test_there_is_no_endpoint_by_default() -> None:
    assert Metrics().listen_addr is None


@pytest.mark.parametrize(
    "address", ["127.0.0.1:9445", "[::1]:9445", "localhost:9445", "unix:/run/metrics.sock"]
)
def test_addresses_of_this_machine(address: str) -> None:
    assert Metrics(listen_addr=address).listen_addr == address


@pytest.mark.parametrize("address", [":9445", "0.0.0.0:9445", "192.0.2.1:9445", "[::]:9445"])
def test_other_addresses_need_the_explicit_key(address: str) -> None:
    with pytest.raises(
        ValidationError, match="is reachable from the network without authentication"
    ):
        Metrics(listen_addr=address)
    assert (
        Metrics(listen_addr=address, expose_to_network_without_authentication=True).listen_addr
        == address
    )
