from starlette.requests import Request

from zerotrust.server.portal.browser_cookies import COOKIE
from zerotrust.server.portal.csrf import token_of


def request(cookie: str) -> Request:
    headers = [(b"cookie", f"{COOKIE}={cookie}".encode())] if cookie else []
    return Request({"type": "http", "headers": headers})


def test_each_session_has_a_token_which_does_not_tell_its_cookie() -> None:
    one, two = token_of(request("a" * 43)), token_of(request("b" * 43))
    assert one != two and len(one) == 43
    assert one == token_of(request("a" * 43))
    assert "aaa" not in one


def test_without_a_cookie_there_is_none() -> None:
    assert token_of(request("")) == token_of(request("malformed")) == ""
