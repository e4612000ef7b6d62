"""Tests of zerotrust.middleware.rewrite."""

import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.middleware.policy_runner import policy, request, run
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
        ("/api//evil.example/x", "/evil.example/x"),
        ("/api/\\evil", "/evil"),
        ("/api/a%20b;c/%2F", "/a%20b;c/%2F"),
    ],
)
def test_a_prefix_is_cut_off(target: str, expected: str) -> None:
    assert rewritten(target, strip_prefix="/api/") == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/old/x?q", "/new/x?q"),
        ("/old", "/new"),
        ("/a/b", "/c/b"),
        ("/x", "/x"),
        ("/olds", "/olds"),
    ],
)
def test_a_prefix_is_replaced(target: str, expected: str) -> None:
    assert rewritten(target, replace_prefix={"/old": "/new", "/a": "/c"}) == expected


def test_a_prefix_for_everything() -> None:
    assert rewritten("/x?y", replace_prefix={"/": "/base"}) == "/base/x?y"
    assert rewritten("*", method="OPTIONS", replace_prefix={"/": "/base"}) == "*"
    assert rewritten("/w%20s/x", strip_prefix="/w") == "/w%20s/x"


def test_two_rewrites_in_a_chain() -> None:
    asked = request(target="/a/b/c")
    assert (
        run(policy(("rewrite", {"strip_prefix": "/a"}), ("rewrite", {"strip_prefix": "/b"})), asked)
        is None
    )
    assert asked.target == b"/c"


CONFINED: dict[str, Any] = {"replace_prefix": {"/pub": "/files/public"}}


def resolved(path: str) -> str:
    """Return a path as a thorough backend resolves it (RFC 3986 s5.2.4)."""
    for _ in range(6):
        path = unquote(path)
    kept: list[str] = []
    for segment in path.replace("\\", "/").split("/"):
        segment = segment.partition(";")[0]
        if segment == "..":
            kept = kept[:-1]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept)


OUTSIDE = [
    "/pub/../../private",
    "/pub/%2e%2e/%2e%2e/private",
    "/pub/..;/x",
    "/pub/..%2fx",
    "/pub\\..\\x",
    "/pub/%252e%252e/x",
]
OUTSIDE += ["/x/../pub/y", "/pub/."]
UNLIKE = ["/pub%2fx", "/pub;v=1/x", "//pub/x", "/%2570ub/x", "/pub%3fx"]


@pytest.mark.parametrize("target", [*OUTSIDE, *UNLIKE])
@pytest.mark.parametrize("config", [CONFINED, {"strip_prefix": "/pub"}])
def test_a_path_that_may_lead_out_of_the_prefix_is_refused(
    target: str, config: dict[str, Any]
) -> None:
    answer = run(policy(("rewrite", config)), request(target=target))
    assert answer is not None
    assert (answer.status, answer.code) == (400, "ambiguous_path")


def test_the_query_is_not_rewritten() -> None:
    assert rewritten("/pub/x?/../../y", **CONFINED) == "/files/public/x?/../../y"


def test_a_path_that_is_too_long_to_be_compared_is_refused() -> None:
    answer = run(policy(("rewrite", CONFINED)), request(target="/pub/" + "a" * 9000))
    assert answer is not None
    assert (answer.status, answer.code) == (414, "path_too_long")


PIECES = [
    "pub",
    "pu",
    "b",
    "x",
    "/",
    "//",
    ".",
    "..",
    "/../",
    "%2e",
    "%2f",
    "%5c",
    "\\",
    ";",
    ";a=b",
    "%70",
    "%2570",
    "%3f",
]


@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_whatever_is_rewritten_stays_below_the_new_prefix(pieces: list[str]) -> None:
    asked = request(target="/" + "".join(pieces))
    if run(policy(("rewrite", CONFINED)), asked) is None:
        before, after = resolved("/" + "".join(pieces)), resolved(asked.target.decode())
        assert (before + "/").startswith("/pub/") is (after + "/").startswith("/files/public/")


@given(
    st.text(st.sampled_from("/api.%61\\?"), max_size=16),
    st.sampled_from([{"strip_prefix": "/a"}, {"replace_prefix": {"/a": "/p/i"}}]),
)
def test_the_result_is_a_target(target: str, config: dict[str, Any]) -> None:
    asked = request(target="/a/" + target)
    if run(policy(("rewrite", config)), asked) is not None:
        return
    found = asked.target.decode()
    assert re.fullmatch(rb"/%b|/" % grammar.TARGET, asked.target)
    assert not found.startswith("//")
    assert found.partition("?")[2] == ("/a/" + target).partition("?")[2]
