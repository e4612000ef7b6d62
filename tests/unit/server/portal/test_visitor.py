"""Tests of zerotrust.server.portal.visitor."""

from starlette.requests import Request

from tests.support.auth_host import sign_in_of as new_sign_in
from zerotrust.server.portal.visitor import credential_of, sign_in_of


def test_a_sign_in_that_ends_while_the_body_comes_does_not_count() -> None:
    sign_in = new_sign_in("u_anna")
    request = Request({"type": "http", "state": {"host": "auth", "credential": sign_in}})
    assert credential_of(request) is sign_in_of(request) is sign_in
    sign_in.ended = "signed out"
    assert credential_of(request) is sign_in_of(request) is None
