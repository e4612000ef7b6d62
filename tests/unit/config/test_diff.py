"""Tests of zerotrust.config.diff."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.config.diff import MAX_NAMES, Changes, compare
from zerotrust.model.agent import AgentConfig
from zerotrust.model.server import ServerConfig


def agent(**data: Any) -> AgentConfig:
    return AgentConfig.model_validate(data)


def service(name: str, backend: str = "x:1") -> dict[str, str]:
    return {"hostname": f"{name}.example.com", "backend": backend, "id": name}


def test_services_are_compared_by_their_id() -> None:
    before = agent(services=[service("a"), service("b"), service("c")])
    after = agent(services=[service("d"), service("c", "y:1"), service("b")])
    changes = compare(before, after)
    assert changes == Changes(added=("d",), changed=("c",), removed=("a",))
    assert str(changes) == "added d; changed c; removed a"


def test_their_order_means_nothing() -> None:
    changes = compare(
        agent(services=[service("a"), service("b")]), agent(services=[service("b"), service("a")])
    )
    assert not changes
    assert str(changes) == "nothing"


def test_settings_are_compared_by_key() -> None:
    changes = compare(
        agent(), agent(logging={"level": "debug"}, agent_id="x", hot_reload={"enabled": False})
    )
    assert set(changes.keys) == {"logging.level", "agent_id", "hot_reload.enabled"}
    assert changes.sections == {"logging", "agent_id", "hot_reload"}
    edge = ServerConfig.model_validate({"caddy": {"acme": {"email": "x"}, "bind": ["::1"]}})
    assert str(compare(ServerConfig(), edge)) == "settings caddy.bind, caddy.acme"


def test_an_unknown_key_changes_nothing() -> None:
    assert not compare(agent(), agent(zzz=1))


def test_a_certificate_that_was_renewed_is_a_change() -> None:
    changes = compare(agent(), agent(), files=["a.crt"])
    assert changes
    assert str(changes) == "files a.crt"


def test_the_text_names_some_of_many_services() -> None:
    summary = str(Changes(added=tuple(f"s{n}" for n in range(500))))
    assert summary == "added 500 (" + ", ".join(f"s{n}" for n in range(MAX_NAMES)) + ", …)"


SERVICES = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["x:1", "y:2"]))


@given(SERVICES, SERVICES)
def test_changes_lead_from_one_configuration_to_the_other(
    old: dict[str, str], new: dict[str, str]
) -> None:
    def config(services: dict[str, str]) -> AgentConfig:
        return agent(services=[service(name, backend) for name, backend in services.items()])

    changes = compare(config(old), config(new))
    assert (set(old) - set(changes.removed)) | set(changes.added) == set(new)
    assert {name for name in new if name in old and old[name] != new[name]} == set(changes.changed)
    assert bool(changes) == (old != new)
    back = compare(config(new), config(old))
    assert set(back.added) == set(changes.removed)
    assert set(back.removed) == set(changes.added)


@pytest.mark.parametrize("model", [AgentConfig, ServerConfig])
def test_nothing_differs_from_itself(model: Any) -> None:
    assert not compare(model(), model())
