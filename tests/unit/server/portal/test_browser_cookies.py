import time

import pytest
from starlette.requests import Request
from starlette.responses import Response

from zerotrust.access.secret_format import is_cookie
from zerotrust.access.subject import Credential, CredentialKind, Subject, SubjectKind
from zerotrust.server.access.sign_ins import IssuedCookie
from zerotrust.server.portal.browser_cookies import (
    COOKIE,
    WAY,
    cookie_of,
    ensure_way,
    remove_sign_in,
    set_sign_in,
    way_of,
)

VALUE = "v" * 43


def request(*lines: str) -> Request:
    headers = [(b"cookie", line.encode("latin-1")) for line in lines]
    return Request({"type": "http", "headers": headers})


def set_cookies(response: Response) -> list[str]:
    return response.headers.getlist("set-cookie")


@pytest.mark.parametrize(
    "lines",
    [
        [f"{COOKIE}={VALUE}"],
        [f"a=b; {COOKIE}={VALUE}; c"],
        ["a=b", f" {COOKIE} = {VALUE} "],
        [f"{WAY}={'w' * 43};{COOKIE}={VALUE}"],
        [f"x{COOKIE}=a; {COOKIE}x=b; {COOKIE}={VALUE}"],
    ],
)
def test_the_cookie_is_found(lines: list[str]) -> None:
    assert cookie_of(request(*lines), COOKIE) == VALUE.encode()


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [f"{COOKIE}"],
        [f"{COOKIE}="],
        [f"{COOKIE}={VALUE}x"],
        [f'{COOKIE}="{VALUE}"'],
        [f"{COOKIE}={VALUE[:-1]}é"],
        [f"{COOKIE.lower()}x={VALUE}"],
        [f"{COOKIE}={VALUE}; {COOKIE}={VALUE}"],
        [f"{COOKIE}={VALUE}", f"{COOKIE}=other"],
    ],
)
def test_a_cookie_that_is_malformed_or_there_twice_is_none(lines: list[str]) -> None:
    assert cookie_of(request(*lines), COOKIE) is None


def issued(seconds: float) -> IssuedCookie:
    subject = Subject(kind=SubjectKind.USER, id="u_1", name="anna")
    credential = Credential(
        CredentialKind.SIGN_IN, "1", digest=b"", subject=subject, ends_at=time.time() + seconds
    )
    return IssuedCookie(value=VALUE, credential=credential)


def test_a_sign_in_has_all_flags_and_ends_with_its_lifetime() -> None:
    response = Response()
    set_sign_in(response, issued(1000.5))
    (line,) = set_cookies(response)
    first, *flags = line.split("; ")
    assert first == f"{COOKIE}={VALUE}"
    assert set(flags) == {"HttpOnly", "Max-Age=1000", "Path=/", "SameSite=lax", "Secure"}


def test_the_longest_lifetime_is_that_of_browsers() -> None:
    response = Response()
    set_sign_in(response, issued(10 * 365 * 86400))
    assert f"Max-Age={400 * 86400};" in set_cookies(response)[0]


def test_a_sign_in_is_removed() -> None:
    response = Response()
    remove_sign_in(response)
    assert f"{COOKIE}=" in set_cookies(response)[0] and "Max-Age=0" in set_cookies(response)[0]


def test_a_browser_keeps_its_way() -> None:
    response = Response()
    assert ensure_way(request(f"{WAY}={VALUE}"), response) == VALUE.encode()
    assert set_cookies(response)[0].startswith(f"{WAY}={VALUE};")


def test_a_browser_without_a_way_gets_one() -> None:
    response = Response()
    way = ensure_way(request(), response)
    assert is_cookie(way)
    (line,) = set_cookies(response)
    assert line.startswith(f"{WAY}={way.decode()};") and "Max-Age=3600" in line
    assert way_of(request(line.partition(";")[0])) == way
