"""Tests of zerotrust.model.agent."""

import pytest
from pydantic import ValidationError

from zerotrust.model.agent import AgentConfig, ServerAddress


def test_both_forms_of_the_agents_id() -> None:
    assert AgentConfig.model_validate({"agent_id": "a"}).declared_id == "a"
    assert AgentConfig.model_validate({"agent": {"id": "b"}, "agent_id": "a"}).declared_id == "b"
    assert AgentConfig().declared_id is None


@pytest.mark.parametrize("address", ["tunnel.example.com", "tunnel.example.com:443", "[::1]:8443"])
def test_server_addresses_are_kept_as_written(address: str) -> None:
    assert ServerAddress(address=address).address == address


@pytest.mark.parametrize("address", [":8443", "tunnel.example.com:0"])
def test_a_server_address_needs_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ValidationError, match="write host:port"):
        ServerAddress(address=address)
