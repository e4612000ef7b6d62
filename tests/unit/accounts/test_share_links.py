"""Tests of zerotrust.accounts.share_links."""

import pytest

from zerotrust.accounts.share_links import parse_url
from zerotrust.errors import AccessError


@pytest.mark.parametrize(
    ("address", "host", "path"),
    [
        ("https://Photos.example.com", "photos.example.com", "/"),
        ("https://photos.example.com/", "photos.example.com", "/"),
        ("https://photos.example.com/album/7/", "photos.example.com", "/album/7"),
        ("https://photos.example.com/a%20b/c.d", "photos.example.com", "/a%20b/c.d"),
        ("https://photos.example.com/...", "photos.example.com", "/..."),
    ],
)
def test_an_address_to_share(address: str, host: str, path: str) -> None:
    assert parse_url(address) == (host, path)


@pytest.mark.parametrize(
    "address",
    [
        "http://photos.example.com/",
        "photos.example.com/x",
        "https://photos.example.com/x?y",
        "https://photos.example.com/x#y",
        "https://anna@photos.example.com/",
        "https://photos.example.com/a/../b",
        "https://photos.example.com/a/..",
        "https://photos.example.com/./a",
        "https://photos.example.com/a/%2e%2E/b",
        "https://photos.example.com/a/.%2e/b",
        "https://photos.example.com/a%2fb",
        "https://photos.example.com/a%5Cb",
        "https://photos.example.com//a",
        "https://photos.example.com/a\\b",
        "https://photos.example.com/a b",
        "https://photos.example.com/é",
        "https://photos.example.com/" + "a" * 3000,
        "https://[/",
        "https://not a host/",
        "",
    ],
    ids=range(20),
)
def test_an_address_that_is_not_plain_is_refused(address: str) -> None:
    with pytest.raises(AccessError):
        parse_url(address)
