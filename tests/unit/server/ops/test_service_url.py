"""Tests of zerotrust.server.ops.service_url."""

import pytest

from zerotrust.errors import AccessError
from zerotrust.server.ops.service_url import ServiceUrl, parse_service_url


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("https://a.example", "a.example", b"/"),
        ("https://A.Example./x?y=1#z", "a.example", b"/x?y=1"),
        ("https://a.example:8443/%2e%2e/x", "a.example", b"/%2e%2e/x"),
        ("https://a.example/ä b", "a.example", b"/%C3%A4%20b"),
        ("https://bücher.example/", "xn--bcher-kva.example", b"/"),
    ],
)
def test_addresses_of_services(url: str, host: str, target: bytes) -> None:
    assert parse_service_url(url) == ServiceUrl(host, target)


@pytest.mark.parametrize(
    "url", ["", "a.example", "http://a.example/", "https://", "https://u@a.example/", "https://[/"]
)
def test_other_addresses(url: str) -> None:
    with pytest.raises(AccessError, match="is no address of a service"):
        parse_service_url(url)
