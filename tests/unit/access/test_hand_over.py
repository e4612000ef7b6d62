from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.access.hand_over import (
    MAX_QUERY,
    Arrival,
    Attempt,
    challenge_of,
    new_way,
    verifier_of,
)
from zerotrust.access.return_target import MAX_TARGET
from zerotrust.access.secret_format import is_cookie, new_cookie

HOST = "app.example.com"
TARGETS = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=50)


@given(TARGETS)
def test_the_browser_that_began_an_attempt_can_finish_it(to: str) -> None:
    way = new_way()
    begun = Attempt.begin(way, host=HOST, to=to)
    read = Attempt.from_query(begun.to_query())
    assert read == begun
    sent = Arrival(new_cookie(), read.n, read.to)
    arrived = Arrival.from_query(sent.to_query())
    assert arrived == sent
    assert challenge_of(arrived.verifier(way)) == read.challenge


def test_another_browser_cannot() -> None:
    attempt = Attempt.begin(new_way(), host=HOST, to="/x")
    arrival = Arrival(new_cookie(), attempt.n, attempt.to)
    assert challenge_of(arrival.verifier(new_way())) != attempt.challenge


def test_a_changed_target_or_number_does_not_fit() -> None:
    way = new_way()
    attempt = Attempt.begin(way, host=HOST, to="/x")
    for n, to in ((attempt.n, "/y"), ("A" * 22, attempt.to)):
        assert challenge_of(Arrival(new_cookie(), n, to).verifier(way)) != attempt.challenge


def test_two_tabs_have_two_attempts() -> None:
    way = new_way()
    one, two = (Attempt.begin(way, host=HOST, to="/x") for _ in range(2))
    assert one.n != two.n and one.challenge != two.challenge


def test_the_verifier_is_an_hmac_of_number_and_target() -> None:
    # Computed with `printf '%s' "$n/x" | openssl dgst -sha256 -hmac "$way"`.
    assert verifier_of(b"w" * 43, "n" * 22, "/x").hex() == (
        "64a84c86b46e721edac19fa2ec639d18732c2bd04a25f1d481b53348e01da6c0"
    )


def test_the_longest_target_fits() -> None:
    to = "/" + "%" * (MAX_TARGET - 1)
    attempt = Attempt.begin(new_way(), host=HOST, to=to)
    assert len(attempt.to_query()) < MAX_QUERY
    assert Attempt.from_query(attempt.to_query()) == attempt


GOOD = {"host": HOST, "to": "/x", "n": "n" * 22, "ch": "c" * 43}


def test_a_hostile_target_is_replaced() -> None:
    attempt = Attempt.from_query(urlencode({**GOOD, "to": "//evil.example"}))
    assert attempt is not None and attempt.to == "/"
    arrival = Arrival.from_query(urlencode({"code": "c" * 43, "n": "n" * 22, "to": "/\t/x"}))
    assert arrival is not None and arrival.to == "/"


@pytest.mark.parametrize(
    "changed",
    [
        {"host": ""},
        {"host": "APP.example.com"},
        {"host": "app.example.com:443"},
        {"host": "app.example.com/x"},
        {"host": "a@b"},
        {"host": "app..com"},
        {"host": ".".join(["a" * 60] * 5)},
        {"n": "n" * 21},
        {"n": "n" * 23},
        {"n": "ü" * 22},
        {"ch": "c" * 42},
        {"ch": "c" * 42 + "="},
        {"ch": "c" * 42 + "+"},
    ],
    ids=str,
)
def test_a_malformed_attempt_is_none(changed: dict[str, str]) -> None:
    assert Attempt.from_query(urlencode(GOOD)) is not None
    assert Attempt.from_query(urlencode({**GOOD, **changed})) is None


@pytest.mark.parametrize("name", GOOD)
def test_each_field_occurs_once(name: str) -> None:
    query = urlencode(GOOD)
    assert Attempt.from_query(f"{query}&{name}={quote(GOOD[name], safe='')}") is None
    assert Attempt.from_query(urlencode({k: v for k, v in GOOD.items() if k != name})) is None


@pytest.mark.parametrize(
    "query", ["", "x", "&" * 17, "a=%ff&" + urlencode(GOOD), urlencode(GOOD) + "&a" * 5000]
)
def test_other_queries_are_none(query: str) -> None:
    assert Attempt.from_query(query) is None
    assert Arrival.from_query(query) is None


@given(st.text())
def test_any_query_is_read_or_refused(query: str) -> None:
    for kind in (Attempt, Arrival):
        read = kind.from_query(query)
        assert read is None or kind.from_query(read.to_query()) == read


def test_a_code_is_not_shown() -> None:
    assert "secret" not in repr(Arrival("secret", "n", "/"))


def test_a_way_has_the_form_of_a_cookie() -> None:
    assert is_cookie(new_way()) and new_way() != new_way()


@pytest.mark.parametrize(
    "query", ["", "code=x&n=y&to=/", f"code={'c' * 43}&n=y&to=/", f"code=c&n={'n' * 22}&to=/"]
)
def test_a_malformed_arrival_is_none(query: str) -> None:
    assert Arrival.from_query(query) is None
