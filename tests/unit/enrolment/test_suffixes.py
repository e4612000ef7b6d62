"""Tests of zerotrust.enrolment.suffixes."""

import pytest

from zerotrust.enrolment.suffixes import warning


@pytest.mark.parametrize("pattern", ["*.co.uk", "*.com", "*.github.io", "*.xn--fiqs8s", "*.x.kawasaki.jp"])
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
