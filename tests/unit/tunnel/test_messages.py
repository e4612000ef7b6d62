import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.binary import MAX_REASON_BYTES
from zerotrust.tunnel.messages import (
    MAX_MEMBERS,
    Hello,
    Members,
    Message,
    Register,
    Registered,
    ServiceHealth,
    Unregister,
    Welcome,
    decode,
)

KINDS: list[type[Message]] = [
    Hello,
    Welcome,
    Register,
    Registered,
    ServiceHealth,
    Members,
    Unregister,
]
HELLO = {"versions": [1], "window": 65536, "max_streams": 100}
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
members = [
    "id",
    "hosts",
    "websocket",
    "name",
    "versions",
    "version",
    "window",
    "max_streams",
    "session",
    "refused",
]
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(members), inner, max_size=6)
    ),
    max_leaves=12,
)


def refused(kind: type[Message], payload: bytes | dict[str, Any]) -> str:
    """Return the reason why a payload is refused."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    with pytest.raises(RemoteProtocolError) as caught:
        decode(kind, data)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@given(payload=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
@example(payload=b"")
@example(payload=b"\xff")
@example(payload=b"{}")
@example(payload=b"[" * 60_000)
@example(payload=b'{"x":' * 10_000)
@example(payload=b'{"id":"a","hosts":["a"],"x":' + b"9" * 60_000 + b"}")
@example(payload=b'{"versions":[' + b"9" * 4_000 + b'],"window":65536,"max_streams":1}')
@example(payload=b'{"id":"a","hosts":["\\ud800"]}')
@example(payload=b'{"id":"a","hosts":["a\\udfffb"],"name":"\\ud83d"}')
@example(payload=b'{"id":"a","refused":{"\\u001b[31m":1}}')
@example(payload=b'{"id":"a","hosts":["\xe2\x80\xae"]}')
@example(payload=b'{"id":"a","hosts":[' + b'"x",' * 16_000 + b'"x"]}')
def test_any_bytes_are_a_message_or_a_broken_rule(kind: type[Message], payload: bytes) -> None:
    try:
        message = decode(kind, payload)
    except RemoteProtocolError as error:
        assert str(error).isprintable(), "what a peer sends must not steer a terminal"
        assert len(str(error).encode()) <= 2 * MAX_REASON_BYTES
    else:
        assert decode(kind, message.encode()) == message


@given(st.text(max_size=260))
@example("[::1%\r\nx-injected: yes]")
@example("[fe80::1%eth0]")
@example("a" * 300)
@example("ß.example")
@example("a\u2024b")
@example("。")
@example("xn--")
@example("\u0130stanbul.example")
def test_a_host_name_is_plain_or_refused(host: str) -> None:
    try:
        message = decode(Register, json.dumps({"id": "a", "hosts": [host]}).encode())
    except RemoteProtocolError:
        return
    (name,) = message.hosts
    assert name.isascii() and name.isprintable() and " " not in name
    assert name == name.lower() and 0 < len(name) <= 253
    assert decode(Register, message.encode()) == message


@given(visible, texts, st.booleans())
def test_register_comes_back(service: str, name: str, websocket: bool) -> None:
    message = Register(
        id=service, hosts=["app.example.com", "[::1]"], websocket=websocket, name=name
    )
    assert decode(Register, message.encode()) == message


def test_a_policy_travels_as_it_is() -> None:
    policy = {"routes": [{"match": {}, "x": None}], "later": 1.5}
    message = Register(id="a", hosts=["a"], policy=policy)
    assert decode(Register, message.encode()).policy == policy
    assert b"policy" not in Register(id="a", hosts=["a"]).encode()
    assert refused(Register, {"id": "a", "hosts": ["a"], "policy": []}).startswith(
        "REGISTER policy"
    )


def test_unknown_members_are_ignored() -> None:
    assert decode(Hello, json.dumps({**HELLO, "later": [1]}).encode()).window == 65536


@pytest.mark.parametrize(
    "change",
    [
        {"window": 16383},
        {"window": 16777217},
        {"window": "65536"},
        {"window": 65536.5},
        {"window": True},
        {"max_streams": 0},
        {"max_streams": 1048577},
        {"versions": "1"},
        {"versions": [1] * 17},
        {"versions": [10**30]},
        {"capabilities": ["x"] * 65},
        {"capabilities": ["x" * 129]},
        {"software": "x" * 129},
    ],
)
def test_hello_has_limits(change: dict[str, Any]) -> None:
    assert refused(Hello, {**HELLO, **change}).startswith("HELLO ")


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "a b"},
        {"id": "a\n"},
        {"id": "é"},
        {"id": "x" * 129},
        {"hosts": []},
        {"hosts": ["a"] * 257},
    ],
)
def test_register_has_limits(change: dict[str, Any]) -> None:
    assert refused(Register, {"id": "a", "hosts": ["a"], **change}).startswith("REGISTER ")


def member(**change: Any) -> dict[str, Any]:
    return {"id": "0" * 32, "address": "One.example.com:8443", **change}


def test_members_come_in_normalised_form() -> None:
    (found,) = decode(Members, json.dumps({"members": [member(later=1)]}).encode()).members
    assert (found.id, found.address) == ("0" * 32, "one.example.com:8443")


@pytest.mark.parametrize(
    "told",
    [
        [member()] * (MAX_MEMBERS + 1),
        [member(id="0" * 31)],
        [member(id="G" * 32)],
        [{"id": "0" * 32}],
        *([member(address=text)] for text in ("", "a", ":1", "a:0", "a:65536", "a/b:1", "a b:1")),
        [member(address="unix:/run/docker.sock")],
        [member(address="a" * 260 + ":1")],
        [member(address=1)],
        None,
    ],
)
def test_members_have_limits(told: Any) -> None:
    assert refused(Members, {"members": told}).startswith("MEMBERS ")


@pytest.mark.parametrize(
    "session", ["", "0" * 31, "0" * 33, "0" * 31 + "G", "A" * 32, "0" * 32 + "\n"]
)
def test_a_session_id_has_32_hexadecimal_digits(session: str) -> None:
    refused(Welcome, {"version": 1, "session": session, "window": 65536, "max_streams": 1})


def test_text_for_people_holds_no_control_characters() -> None:
    assert (
        decode(Hello, json.dumps({**HELLO, "software": "a\x1b[31m\r\nb"}).encode()).software
        == "a?[31m??b"
    )
    assert decode(Register, b'{"id":"a","hosts":["a"],"name":"\\u0007\xe2\x80\xaex"}').name == "??x"


def test_the_numbers_of_a_health_message_agree() -> None:
    faults = [{"address": "10.0.0.1:80"}] * 2
    for healthy, named in ((3, []), (1, faults[:1]), (0, faults)):
        said = {"id": "a", "healthy": healthy, "upstreams": 3, "unhealthy": named}
        assert decode(ServiceHealth, json.dumps(said).encode()).healthy == healthy
    for healthy, named in ((4, []), (3, faults[:1]), (2, faults)):
        said = {"id": "a", "healthy": healthy, "upstreams": 3, "unhealthy": named}
        assert "are more than upstreams" in refused(ServiceHealth, said)
