"""Tests of the search for tokens in header fields."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.access.secret_format import APP, INVITATION, LINK, MACHINE, new_secret
from zerotrust.access.token_fields import find_token
from zerotrust.http.head import parse_request
from zerotrust.http.head_block import request_block

TOKEN = new_secret(MACHINE)
OTHER = new_secret(APP)
REST = b"Accept: */*\r\n"


def basic(password: str, user: str = "anna") -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def authorization(value: bytes) -> bytes:
    return b"Authorization: %b\r\n" % value


def test_our_own_field() -> None:
    assert find_token(TOKEN.encode(), REST) == (TOKEN, REST)


@pytest.mark.parametrize("name", ["X-0Trust-Token", "x-0trust-token", "X_0Trust_Token"])
def test_our_own_field_reaches_no_backend(name: str) -> None:
    head = parse_request(f"GET / HTTP/1.1\r\nHost: a\r\n{name}: {TOKEN}\r\n\r\n".encode())
    assert (head.fields.token == TOKEN.encode()) is ("_" not in name)
    assert TOKEN.encode() not in request_block(head, client=b"", proto=b"https")


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {TOKEN}".encode(),
        f"bearer  {TOKEN}".encode(),
        basic(TOKEN),
        basic(TOKEN, user=""),
        basic(TOKEN, user="u" * 2000),
        basic(TOKEN).replace(b"Basic", b"BASIC"),
    ],
    ids=range(6),
)
def test_authorization(value: bytes) -> None:
    assert find_token(None, authorization(value) + REST) == (TOKEN, REST)


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer eyJhbGciOi.x.y",
        b"Bearer",
        b"Bearer ",
        basic("swordfish"),
        b"Basic !!!",
        b"Basic a",
        b"Digest username=0t_m_",
        b"0t_m_",
    ],
)
def test_what_is_not_ours_passes_untouched(value: bytes) -> None:
    lines = authorization(value) + REST
    assert find_token(None, lines) == ("", lines)


@pytest.mark.parametrize(
    "secret",
    [new_secret(LINK), new_secret(INVITATION), TOKEN[:-1], TOKEN[:-1] + "!", "0t_", "0t_ü"],
    ids=range(6),
)
def test_other_secrets_of_ours_count_as_none_and_reach_no_backend(secret: str) -> None:
    for value in (b"Bearer " + secret.encode(), basic(secret)):
        assert find_token(None, authorization(value) + REST) == ("", REST)


def test_two_different_tokens_count_as_none() -> None:
    lines = authorization(b"Bearer " + OTHER.encode())
    assert find_token(TOKEN.encode(), lines + REST) == ("", REST)
    assert find_token(f"{TOKEN}, {OTHER}".encode(), REST) == ("", REST)
    assert find_token(None, lines + authorization(basic(TOKEN))) == ("", b"")


def test_the_same_token_twice_counts() -> None:
    lines = authorization(basic(TOKEN))
    assert find_token(f"{TOKEN}, {TOKEN}".encode(), lines) == (TOKEN, b"")


def test_a_token_beside_a_bearer_of_the_backend() -> None:
    lines = authorization(b"Bearer eyJ.x.y")
    assert find_token(TOKEN.encode(), lines) == (TOKEN, lines)


CLOUDFLARE = f"CF-Access-Client-Id: any\r\nCF-Access-Client-Secret: {TOKEN}\r\n".encode()
PANGOLIN = f"P-Access-Token-Id: any\r\nP-Access-Token: {TOKEN}\r\n".encode()


@pytest.mark.parametrize(
    ("style", "lines"),
    [("cf_access", CLOUDFLARE), ("pangolin", PANGOLIN)],
    ids=["cf_access", "pangolin"],
)
def test_fields_of_other_products(style: str, lines: bytes) -> None:
    assert find_token(None, lines + REST, [style]) == (TOKEN, REST)
    assert find_token(
        None, lines.lower().replace(TOKEN.lower().encode(), TOKEN.encode()), [style]
    ) == (TOKEN, b"")
    assert find_token(None, lines + REST) == ("", lines + REST)


def test_other_spellings_of_their_fields_count_as_none_and_reach_no_backend() -> None:
    lines = CLOUDFLARE.replace(b"-Client", b"_Client") + PANGOLIN.replace(b"-", b"_")
    assert find_token(None, lines + REST, ["cf_access", "pangolin"]) == ("", REST)


LINES = st.lists(
    st.sampled_from(
        [
            *CLOUDFLARE.splitlines(True),
            *PANGOLIN.splitlines(True),
            authorization(b"Bearer " + OTHER.encode()),
            authorization(basic(TOKEN)),
            authorization(b"Bearer eyJ.x.y"),
            REST,
        ]
    )
).map(b"".join)


@given(LINES, st.sampled_from([None, TOKEN.encode(), OTHER.encode(), b"x"]))
def test_no_token_stays_in_the_lines(lines: bytes, own: bytes | None) -> None:
    secret, left = find_token(own, lines, ["cf_access", "pangolin"])
    assert secret in ("", TOKEN, OTHER)
    encoded = basic(TOKEN)
    assert not any(value in left for value in (TOKEN.encode(), OTHER.encode(), encoded))
    assert left.count(b"Bearer eyJ") == lines.count(b"Bearer eyJ")
    assert left.count(REST) == lines.count(REST)
