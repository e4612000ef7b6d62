"""Tests of zerotrust.model.agent."""

from zerotrust.model.agent import AgentConfig


def test_both_forms_of_the_agents_id() -> None:
    assert AgentConfig.model_validate({"agent_id": "a"}).declared_id == "a"
    assert AgentConfig.model_validate({"agent": {"id": "b"}, "agent_id": "a"}).declared_id == "b"
    assert AgentConfig().declared_id is None
