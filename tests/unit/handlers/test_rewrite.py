"""Tests of zerotrust.handlers.rewrite."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.handlers.asking import policy, request, run
from zerotrust.http import grammar


def rewritten(target: str, method: str = "GET", **config: Any) -> str:
    asked = request(target=target, method=method)
    assert run(policy(("rewrite", config)), asked) is None
    return asked.target.decode()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/api/x?y=/api/z", "/x?y=/api/z"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/api?q", "/?q"),
        ("/apix", "/apix"),
        ("/other/api/x", "/other/api/x"),
        ("/%61pi/x", "/x"),
        ("/AP%49/x", "/AP%49/x"),
        ("/%61%70%69%2Fx", "/%61%70%69%2Fx"),
        ("/api//evil.example/x", "/evil.example/x"),
        ("/api/\\evil", "/evil"),
        ("/api/a%20b;c/%2F", "/a%20b;c/%2F"),
    ],
)
def test_a_prefix_is_cut_off(target: str, expected: str) -> None:
    assert rewritten(target, strip_prefix="/api/") == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [("/old/x?q", "/new/x?q"), ("/old", "/new"), ("/a/b", "/c/b"), ("/x", "/x"), ("/olds", "/olds")],
)
def test_a_prefix_is_replaced(target: str, expected: str) -> None:
    assert rewritten(target, replace_prefix={"/old": "/new", "/a": "/c"}) == expected


def test_a_prefix_for_everything() -> None:
    assert rewritten("/x?y", replace_prefix={"/": "/base"}) == "/base/x?y"
    assert rewritten("*", method="OPTIONS", replace_prefix={"/": "/base"}) == "*"
    assert rewritten("/w%20s/x", strip_prefix="/w") == "/w%20s/x"


def test_two_in_a_chain() -> None:
    asked = request(target="/a/b/c")
    assert run(policy(("rewrite", {"strip_prefix": "/a"}), ("rewrite", {"strip_prefix": "/b"})), asked) is None
    assert asked.target == b"/c"


@given(
    st.text(st.sampled_from("/api.%61\\?"), max_size=16),
    st.sampled_from([{"strip_prefix": "/a"}, {"replace_prefix": {"/a": "/p/i"}}]),
)
def test_the_result_is_a_target(target: str, config: dict[str, Any]) -> None:
    found = rewritten("/a/" + target, **config)
    assert re.fullmatch(rb"/%b|/" % grammar.TARGET, found.encode())
    assert not found.startswith("//")
    assert found.partition("?")[2] == ("/a/" + target).partition("?")[2]
