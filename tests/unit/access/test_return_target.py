from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.access.return_target import MAX_TARGET, safe_target

BASE = "https://app.example.com/.0trust/in?code=x"

HOSTILE = [
    "",
    " ",
    " /x",
    "\t/x",
    "\n/x",
    "//evil.example",
    "///evil.example",
    "////evil.example/%2e%2e",
    "//evil.example@app.example.com",
    "//app.example.com@evil.example",
    "//\tevil.example",
    "/\\evil.example",
    "/\\/evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "\\evil.example",
    "/x\\..\\..\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "/\r\n/evil.example",
    "/\t\\evil.example",
    "/\x00/evil.example",
    "/\x0b/evil.example",
    "/\x0c/evil.example",
    "/\x1f/evil.example",
    "/\x7f/evil.example",
    "/ /evil.example",
    "/x y",
    "/x\r\nSet-Cookie: a=b",
    "/x\nLocation: https://evil.example",
    "/x\u2028y",
    "/\u2028/evil.example",
    "/\ufeff/evil.example",
    "/\u200b/evil.example",
    "/\u00a0/evil.example",
    "/\u3002evil.example",
    "\uff0f\uff0fevil.example",
    "/\uff0fevil.example",
    "/\u2215evil.example",
    "/\u00e9",
    "/\U0001f600",
    "/\ud800",
    "https://evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "HTTPS://evil.example",
    "http://app.example.com/",
    "https://app.example.com/",
    "https://app.example.com.evil.example/",
    "https://app.example.com@evil.example/",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "blob:https://app.example.com/x",
    "file:///etc/passwd",
    "evil.example",
    "evil.example/x",
    "@evil.example",
    ":443/x",
    "?x",
    "#x",
    "#//evil.example",
    ".",
    "..",
    "../x",
    "./x",
    "*",
    "%2F%2Fevil.example",
    "%2fevil.example",
    "/" + "a" * MAX_TARGET,
    "//" + "a" * MAX_TARGET + "?x",
]

STRANGE_BUT_SAFE = [
    "/",
    "/x",
    "/x?y=z",
    "/?next=//evil.example",
    "/?https://evil.example",
    "/%09/evil.example",
    "/%5Cevil.example",
    "/%5c%5cevil.example",
    "/%2F%2Fevil.example",
    "/%0d%0aSet-Cookie:%20a=b",
    "/.//evil.example",
    "/..//evil.example",
    "/x//evil.example",
    "/:@evil.example",
    "/https://evil.example",
    "/javascript:alert(1)",
    "/;/evil.example",
    "/?",
    "/~a!$&'()*+,;=:@[]{}|^`\"<>",
]
"""Each stays on the host, because a browser reads it as a path."""


def where_a_browser_goes(target: str) -> str:
    """Return the host name that a browser would go to.

    Like a browser (URL Standard), drop tabs and line ends, and read backslashes as slashes.
    """
    text = target.strip("".join(map(chr, range(33)))).translate({9: None, 10: None, 13: None})
    path, mark, query = text.partition("?")
    return urlsplit(urljoin(BASE, path.replace("\\", "/") + mark + query)).netloc


def test_there_are_sixty_hostile_targets() -> None:
    assert len(set(HOSTILE)) >= 60


@pytest.mark.parametrize("target", HOSTILE, ids=ascii)
def test_a_hostile_target_becomes_the_root(target: str) -> None:
    assert safe_target(target) == "/"


@pytest.mark.parametrize("target", STRANGE_BUT_SAFE)
def test_a_path_of_the_same_host_stays(target: str) -> None:
    assert safe_target(target) == target
    assert where_a_browser_goes(target) == "app.example.com"


def test_a_fragment_is_cut_off() -> None:
    assert safe_target("/x?y#//evil.example") == "/x?y"


def test_a_long_target_is_cut_to_its_path() -> None:
    assert safe_target("/x?" + "y" * MAX_TARGET) == "/x"
    assert safe_target("/x?" + "y" * (MAX_TARGET - 3)) == "/x?" + "y" * (MAX_TARGET - 3)


ODD = st.text(alphabet="/\\?#@:.%\t\r\n a0\x00\u2028é", max_size=20)


@given(st.one_of(st.text(max_size=60), ODD, ODD.map("/".__add__)))
def test_each_target_stays_on_its_host_and_is_a_fixed_point(text: str) -> None:
    target = safe_target(text)
    assert where_a_browser_goes(target) == "app.example.com"
    assert target.startswith("/") and not target.startswith(("//", "/\\"))
    assert target.isascii() and target.isprintable()
    assert not set(target) & set("\\# ")
    assert len(target) <= MAX_TARGET
    assert safe_target(target) == target
