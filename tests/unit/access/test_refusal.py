"""Tests of zerotrust.access.refusal: the table "Answers without a pass" of docs/access.md."""

import html.parser
import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.access.hand_over import Attempt
from zerotrust.access.refusal import (
    AskedFor,
    Refusal,
    RefusedRequest,
    asked_for,
    denial,
    origin_refusal,
    sign_in_refusal,
    unavailable,
)
from zerotrust.access.secret_format import is_cookie

AUTH = "https://auth.example.com"
WAY = b"A" * 43
NAVIGATE = b"Sec-Fetch-Mode: navigate\r\n"
PAGE = NAVIGATE + b"Sec-Fetch-Dest: document\r\n"
SCRIPT = b"Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
HTML = b"Accept: text/html,*/*;q=0.8\r\n"
PREFLIGHT = b"Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n"


def request(
    method: bytes = b"GET",
    lines: bytes = b"",
    *,
    target: bytes = b"/x?y=1",
    upgrade: bool = False,
    way: bytes | None = None,
) -> RefusedRequest:
    return RefusedRequest(
        method, target, "app.example.com", b"app.example.com:8443", lines, upgrade, way
    )


@pytest.mark.parametrize(
    ("method", "lines", "upgrade", "kind"),
    [
        (b"GET", PAGE, False, AskedFor.PAGE),
        (b"GET", HTML, False, AskedFor.PAGE),
        (b"GET", NAVIGATE + b"Sec-Fetch-Dest: empty\r\n", False, AskedFor.PAGE),
        (b"POST", NAVIGATE + b"Sec-Fetch-Dest: empty\r\n", False, AskedFor.FORM),
        (b"POST", PAGE, False, AskedFor.FORM),
        (b"POST", HTML, False, AskedFor.FORM),
        (b"GET", NAVIGATE + b"Sec-Fetch-Dest: iframe\r\n", False, AskedFor.FRAME),
        (b"POST", NAVIGATE + b"Sec-Fetch-Dest: iframe\r\n", False, AskedFor.FRAME),
        (b"GET", NAVIGATE + b"Sec-Fetch-Dest: embed\r\n", False, AskedFor.FRAME),
        (b"GET", NAVIGATE + b"Sec-Fetch-Dest: object\r\n", False, AskedFor.FRAME),
        (b"GET", SCRIPT, False, AskedFor.SCRIPT),
        (b"GET", SCRIPT + HTML, False, AskedFor.SCRIPT),
        (b"GET", b"Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n", False, AskedFor.SCRIPT),
        (b"GET", b"Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: manifest\r\n", False, AskedFor.SCRIPT),
        (
            b"GET",
            b"Sec-Fetch-Mode: same-origin\r\nSec-Fetch-Dest: serviceworker\r\n",
            False,
            AskedFor.SCRIPT,
        ),
        (b"HEAD", PAGE, False, AskedFor.SCRIPT),
        (b"HEAD", HTML, False, AskedFor.PROGRAM),
        (b"GET", b"Accept: */*\r\n", False, AskedFor.PROGRAM),
        (b"GET", b"", False, AskedFor.PROGRAM),
        (b"POST", b"Accept: application/json\r\n", False, AskedFor.PROGRAM),
        (b"GET", PAGE + HTML, True, AskedFor.UPGRADE),
        (b"OPTIONS", PREFLIGHT, False, AskedFor.PREFLIGHT),
        (b"OPTIONS", SCRIPT + PREFLIGHT, False, AskedFor.PREFLIGHT),
        (b"OPTIONS", b"Origin: https://a.example\r\n", False, AskedFor.PROGRAM),
        # A field that occurs twice says nothing.
        (b"GET", PAGE + PAGE, False, AskedFor.PROGRAM),
    ],
)
def test_kinds_of_requests(method: bytes, lines: bytes, upgrade: bool, kind: AskedFor) -> None:
    assert asked_for(method, lines, upgrade=upgrade) is kind


def fields(refusal: Refusal) -> dict[str, str]:
    rows = refusal.lines.decode().splitlines()
    found = dict(row.split(": ", 1) for row in rows)
    assert len(found) == len(rows)
    return found


def test_a_page_load_is_led_to_the_sign_in() -> None:
    refusal = sign_in_refusal(request(lines=PAGE), auth_origin=AUTH)
    found = fields(refusal)
    assert (refusal.status, refusal.body, found["Cache-Control"]) == (302, b"", "no-store")
    location = urlsplit(found["Location"])
    assert (location.scheme, location.netloc, location.path) == ("https", "auth.example.com", "/go")
    attempt = Attempt.from_query(location.query)
    assert attempt is not None and (attempt.host, attempt.to) == ("app.example.com", "/x?y=1")
    match = re.fullmatch(
        r"__Host-0trust-way=([\w-]+); Max-Age=3600; Path=/; Secure; HttpOnly; SameSite=Lax",
        found["Set-Cookie"],
    )
    assert match is not None and is_cookie(match[1].encode())


def test_the_way_of_a_browser_stays_the_same() -> None:
    refusal = sign_in_refusal(request(lines=PAGE, way=WAY), auth_origin=AUTH)
    assert "Set-Cookie" not in fields(refusal)


@pytest.mark.parametrize(
    ("target", "to"),
    [
        (b"/a?b=%20c", "/a?b=%20c"),
        (b"//evil.example/", "/"),
        (b"/\\evil.example", "/%5Cevil.example"),
        (b"/caf\xc3\xa9", "/caf%C3%A9"),
        (b"*", "/"),
        (b"/" + b"a" * 5000, "/"),
        (b"/a?" + b"b" * 5000, "/a"),
    ],
)
def test_the_target_to_return_to(target: bytes, to: str) -> None:
    refusal = sign_in_refusal(request(lines=PAGE, target=target), auth_origin=AUTH)
    query = parse_qs(urlsplit(fields(refusal)["Location"]).query)
    assert query["to"] == [to]


def test_a_form_is_not_lost() -> None:
    refusal = sign_in_refusal(request(b"POST", PAGE), auth_origin=AUTH)
    assert refusal.status == 401
    assert b"not sent" in refusal.body and b'target="_blank"' in refusal.body
    assert "frame-ancestors 'none'" in fields(refusal)["Content-Security-Policy"]


def test_a_frame_shows_a_link_to_a_new_tab() -> None:
    lines = NAVIGATE + b"Sec-Fetch-Dest: iframe\r\n"
    refusal = sign_in_refusal(request(lines=lines, target=b"//evil/"), auth_origin=AUTH)
    assert refusal.status == 401
    assert b'<a href="/" target="_blank" rel="noopener">' in refusal.body
    assert "frame-ancestors" not in fields(refusal)["Content-Security-Policy"]


@pytest.mark.parametrize("lines", [SCRIPT, b"Accept: application/json\r\n"])
def test_a_script_gets_json(lines: bytes) -> None:
    refusal = sign_in_refusal(request(lines=lines), auth_origin=AUTH)
    assert refusal.status == 401
    assert fields(refusal)["X-0Trust-Error"] == "login_required"
    assert "Set-Cookie" not in fields(refusal)
    assert json.loads(refusal.body) == {
        "error": "login_required",
        "login_url": "https://app.example.com:8443/.0trust/in",
    }


@pytest.mark.parametrize(
    ("method", "lines", "upgrade"),
    [
        (b"GET", b"", False),
        (b"HEAD", HTML, False),
        (b"GET", b"Accept: */*\r\n", False),
        (b"GET", PAGE, True),
        (b"OPTIONS", PREFLIGHT, False),
    ],
)
def test_other_programs_get_a_line_of_text(method: bytes, lines: bytes, upgrade: bool) -> None:
    refusal = sign_in_refusal(request(method, lines, upgrade=upgrade), auth_origin=AUTH)
    assert refusal.status == 401
    assert fields(refusal)["X-0Trust-Error"] == "login_required"
    assert fields(refusal)["Cache-Control"] == "no-store"
    assert refusal.body.count(b"\n") == 1


@pytest.mark.parametrize(
    ("lines", "asks"),
    [(b"", True), (b"Accept: application/json\r\n", True), (SCRIPT, False), (PREFLIGHT, True)],
)
def test_basic_is_for_programs_alone(lines: bytes, asks: bool) -> None:
    refusal = sign_in_refusal(request(lines=lines), auth_origin=AUTH, basic=True)
    assert ("WWW-Authenticate" in fields(refusal)) is asks
    upgrade = sign_in_refusal(request(upgrade=True), auth_origin=AUTH, basic=True)
    assert "WWW-Authenticate" not in fields(upgrade)


@pytest.mark.parametrize(
    "lines", [PAGE, NAVIGATE + b"Sec-Fetch-Dest: iframe\r\n", SCRIPT, b"", b"Accept: x/json\r\n"]
)
def test_a_denial_tells_people_who_they_are(lines: bytes) -> None:
    refusal = denial(request(lines=lines), name='<a href="//evil">&')
    assert refusal.status == 403
    assert fields(refusal)["X-0Trust-Error"] == "access_denied"
    named = b"&lt;a href=&quot;//evil&quot;&gt;&amp;" in refusal.body
    assert named is (b"navigate" in lines)
    assert (b'href="/.0trust/out"' in refusal.body) is named  # a page that shows what it does
    assert b'<a href="//evil"' not in refusal.body
    assert denial(request(lines=lines), name=None).status == 403


def test_other_refusals() -> None:
    assert origin_refusal().status == 403
    for lines in (PAGE, NAVIGATE + b"Sec-Fetch-Dest: iframe\r\n", SCRIPT):
        refusal = unavailable(request(lines=lines))
        assert (refusal.status, fields(refusal)["Retry-After"]) == (503, "60")


class Links(html.parser.HTMLParser):
    """Collects what a page loads, and its links."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {
            *("html", "meta", "title", "style", "main", "h1", "p", "a", "strong"),
        }
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


@given(st.binary(max_size=30), st.text(max_size=30), st.sampled_from([PAGE, HTML, b""]))
def test_no_page_leads_away(target: bytes, name: str, lines: bytes) -> None:
    frame = NAVIGATE + b"Sec-Fetch-Dest: iframe\r\n"
    for page in (
        sign_in_refusal(request(lines=frame, target=b"/" + target), auth_origin=AUTH),
        sign_in_refusal(request(b"POST", PAGE, target=b"/" + target), auth_origin=AUTH),
        denial(request(lines=frame), name=name),
        denial(request(lines=lines), name=name),
    ):
        found = Links()
        found.feed(page.body.decode())
        for link in found.links:
            assert link.startswith("/") and not re.match(r"/[/\\]", link)
        assert b"\n\n" not in page.lines and page.lines.count(b"\n") == page.lines.count(b"\r\n")
