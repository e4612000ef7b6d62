"""Tests of zerotrust.model.middleware_settings; what is refused, and where, is in test_handlers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from zerotrust.http import grammar
from zerotrust.model.middleware_settings import (
    CorsConfig,
    HeaderEdits,
    IpAllowConfig,
    RedirectConfig,
    RewriteConfig,
)


def test_names_of_all_edits() -> None:
    assert HeaderEdits(set={"A": ["1"]}, add={"B": ["2"]}, delete=["C"]).names == ["A", "B", "C"]


def test_networks_in_their_one_form() -> None:
    config = IpAllowConfig(
        allowed_ips=["192.168.1.5/24", "::ffff:10.0.0.0/104", "::FFFF:1.2.3.4", "2001:DB8::1"]
    )
    assert config.allowed_ips == ["192.168.1.0/24", "10.0.0.0/8", "1.2.3.4/32", "2001:db8::1/128"]
    assert IpAllowConfig(allowed_ips=["::/0"]).allowed_ips == ["::/0"]


def test_origins_in_their_one_form() -> None:
    origins = [
        "HTTPS://App.Example.com:443/",
        "http://a:80",
        "https://a:80",
        "https://*.Example.com",
        "app://x",
        "*",
    ]
    assert CorsConfig(origins=origins).origins == [
        "https://app.example.com",
        "http://a",
        "https://a:80",
        "https://*.example.com",
        "app://x",
        "*",
    ]


def test_prefixes_in_their_one_form() -> None:
    config = RewriteConfig(replace_prefix={"/old/": "/new/", "/": "/base"})
    assert config.replace_prefix == {"/old": "/new", "": "/base"}


@given(st.text(max_size=20))
def test_valid_settings_fit_into_a_head(text: str) -> None:
    try:
        location = RedirectConfig(location=text).location
        assert re.fullmatch(grammar.LINES, f"Location: {location}\r\n".encode())
    except ValidationError:
        pass
    try:
        prefix = RewriteConfig(strip_prefix=text).strip_prefix
        assert not prefix or re.fullmatch(b"/" + grammar.TARGET, prefix.encode())
    except ValidationError:
        pass
    try:
        (origin,) = CorsConfig(origins=[text]).origins
        assert re.fullmatch(grammar.LINES, f"A: {origin}\r\n".encode())
    except ValidationError:
        pass


def test_a_location_has_at_most_8_placeholders() -> None:
    assert RedirectConfig(location="{host}" * 8)
    with pytest.raises(ValidationError, match="location has 9 placeholders; at most 8"):
        RedirectConfig(location="{host}" * 9)


@pytest.mark.parametrize("field", ["strip_prefix", "replace_prefix"])
@pytest.mark.parametrize(
    ("prefix", "problem"),
    [
        ("api", "write a decoded path"),
        ("/a%20b", "write a decoded path"),
        ("/a//b", "write a decoded path"),
        ("/a/./b", "write the path without"),
        ("/a/..", "write the path without"),
        ("/a;b", "matches no request"),
        ("/a\\b", "matches no request"),
    ],
)
def test_an_invalid_prefix_names_its_problem(field: str, prefix: str, problem: str) -> None:
    value = prefix if field == "strip_prefix" else {prefix: "/new"}
    with pytest.raises(ValidationError, match=problem):
        RewriteConfig.model_validate({field: value})
