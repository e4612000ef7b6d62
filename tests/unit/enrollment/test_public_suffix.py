"""Tests of zerotrust.enrollment.public_suffix."""

import pytest

from zerotrust.enrollment.public_suffix import registered_domain, warning


@pytest.mark.parametrize(
    "pattern", ["*.co.uk", "*.com", "*.github.io", "*.xn--fiqs8s", "*.x.kawasaki.jp"]
)
def test_wildcards_for_everybody_warn(pattern: str) -> None:
    assert f'public suffix "{pattern[2:]}"' in (warning(pattern) or "")


@pytest.mark.parametrize("name", ["co.uk", "com", "github.io"])
def test_so_do_suffixes_themselves(name: str) -> None:
    assert (warning(name) or "").startswith(f'"{name}" is a public suffix')


@pytest.mark.parametrize(
    "pattern",
    [
        "*.example.co.uk",
        "*.example.com",
        "*.lab.example.com",
        "*.lan",
        "*.home.arpa",
        "home.arpa",
        "localhost",
        "a.example",
    ],
)
def test_others_do_not(pattern: str) -> None:
    assert warning(pattern) is None


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("a.b.example.co.uk", "example.co.uk"),
        ("example.com", "example.com"),
        ("a.xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("a.me.github.io", "me.github.io"),
        ("a.b.lab.lan", "lab.lan"),
        ("nas", "nas"),
        ("co.uk", "co.uk"),
    ],
)
def test_the_domain_that_somebody_has_registered(name: str, domain: str) -> None:
    assert registered_domain(name) == domain
