"""Tests of zerotrust.model.agent."""

from typing import Any

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


PROXY = "http://anna@proxy.example.com:3128"


def with_password(content: bytes, url: str = PROXY) -> ServerAddress:
    said = {"proxy": url, "proxy_password_file": "password"}
    return ServerAddress.model_validate(said).with_files({"password": content})


def test_the_password_of_the_proxy_comes_from_its_file() -> None:
    server = with_password(" pass wörd \r\n".encode())
    assert server.configured_proxy is not None
    assert server.configured_proxy.password == " pass wörd "
    assert "wörd" not in f"{server} {server!r} {server.model_dump()}"
    assert server != with_password(b"another"), "a reload sees a new password"
    assert server.files == {"proxy_password_file": "password"}


def test_a_server_without_a_proxy() -> None:
    assert ServerAddress().configured_proxy is None
    assert ServerAddress(proxy="none").configured_proxy is None
    assert ServerAddress().files == {}
    assert ServerAddress().with_files({}).configured_proxy is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"proxy": "http://proxy:3128"}, "needs a user in server.proxy"),
        ({"proxy": "none"}, "needs a user in server.proxy"),
        ({}, "needs a user in server.proxy"),
        ({"proxy": "http://anna:secret@proxy:3128"}, "the URL has a password"),
    ],
)
def test_a_password_without_a_user_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ServerAddress.model_validate({**said, "proxy_password_file": "password"})


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff", "password: it is not text"), (b"a\nb", "password: the user or the password of")],
)
def test_an_unusable_password_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_password(content)
