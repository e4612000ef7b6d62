"""Tests of zerotrust.access.shown_credentials."""

import pytest

from zerotrust.access.secret_format import MACHINE, digest_of, new_cookie, new_secret
from zerotrust.access.shown_credentials import shown_credentials
from zerotrust.http.head import RequestFields, parse_request
from zerotrust.http.parse_cache import MAX_BYTES

COOKIE, WAY, TOKEN = new_cookie(), new_cookie(), new_secret(MACHINE)


def fields(*lines: str) -> RequestFields:
    head = "\r\n".join(["GET / HTTP/1.1", "Host: app.example.com", *lines, "", ""])
    return parse_request(head.encode("latin-1")).fields


@pytest.mark.parametrize("rest", [[], [f"X-Long: {'a' * MAX_BYTES}"]])
def test_all_that_a_head_shows(rest: list[str]) -> None:
    found = fields(
        f"Cookie: a=b; __Host-0trust={COOKIE}",
        f"Cookie: __Host-0trust-way={WAY}",
        f"Authorization: Bearer {TOKEN}",
        "X-App: 1",
        *rest,
    )
    shown = shown_credentials(found, gated=True)
    assert shown.cookie == digest_of(COOKIE.encode())
    assert shown.way == WAY.encode()
    assert shown.token == digest_of(TOKEN.encode())
    assert shown.original is found
    kept = ["Cookie: a=b", "X-App: 1", *rest, ""]
    assert shown.fields.lines == "\r\n".join(kept).encode()
    assert shown.fields.host == "app.example.com"


def test_a_head_without_credentials_stays_as_it_is() -> None:
    found = fields("Cookie: a=b;c=d", "Authorization: Basic YTpi", "X-App: 1")
    for gated in (True, False):
        shown = shown_credentials(found, gated=gated)
        assert shown.fields is found
        assert (shown.cookie, shown.token, shown.way) == (None, None, None)


def test_an_empty_cookie_field_shows_nothing_and_stays() -> None:
    found = fields("Cookie:", "X-App: 1")
    shown = shown_credentials(found, gated=True)
    assert shown.fields is found
    assert shown.cookie is None


def test_fields_that_name_the_user_pass_only_where_there_is_no_gate() -> None:
    found = fields("CF-Access-Jwt-Assertion: x", "Remote-User: anna", "X-Forwarded-Host: b")
    open_to_all = shown_credentials(found, gated=False)
    assert open_to_all.fields is found
    gated = shown_credentials(found, gated=True)
    assert gated.fields.lines == b""
    assert b"Remote-User" in found.spoofable and b"Remote-User" not in gated.fields.spoofable


def test_fields_of_other_products_count_where_the_rule_names_them() -> None:
    found = fields(f"P-Access-Token: {TOKEN}", "P-Access-Token-Id: x")
    assert shown_credentials(found, gated=True).token is None
    shown = shown_credentials(found, gated=True, styles=("pangolin",))
    assert shown.token == digest_of(TOKEN.encode())
    assert shown.fields.lines == b""


def test_each_head_is_read_once() -> None:
    found = fields(f"Cookie: __Host-0trust={COOKIE}")
    assert shown_credentials(found, gated=True) is shown_credentials(found, gated=True)
