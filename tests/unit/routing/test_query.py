"""Tests of zerotrust.routing.query."""

import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerotrust.routing.query import (
    MAX_PARAMETERS,
    MAX_QUERY_BYTES,
    QueryCondition,
    QueryParameters,
    QueryTooLong,
    TooManyParameters,
)


def fits(name: str, value: str, target: bytes) -> bool | None:
    return QueryCondition(name, value).fits(QueryParameters(target))


@pytest.mark.parametrize(
    ("name", "value", "query", "expected"),
    [
        ("a", "1", b"a=1", True),
        ("a", "1", b"b=2&a=1", True),
        ("a", "1", b"a=11", False),
        ("a", "1", b"", False),
        ("a", "1", b"&&=&%%=%ff", False),
        ("a", "1", b"%61=%31", True),
        ("a", "*", b"a=", True),
        ("a", "*", b"a", True),
        ("a", "", b"a", True),
        ("a", "*", b"ab=1", False),
        ("a", "x*", b"a=xyz", True),
        ("a.b", "1", b"a.b=1", True),
        ("a[]", "1", b"a[]=1", True),
        ("a[b]", "1", b"a%5Bb%5D=1", True),
        ("a[b]", "1", b"a[c]=1", False),
        ("_a", "1", b"_a=1", True),
        ("_a", "1", b"a=1", False),
        # Several values: the first, the last, or all of them.
        ("a", "1", b"a=2&a=1", None),
        ("a", "1", b"a=1&a=2", None),
        ("a", "1", b"a=1&a=1", None),
        ("a", "1", b"a=2&a=3", False),
        ("a", "1*", b"a=1&a=12", True),
        ("a", "*", b"a=2&a=3", True),
        ("a", "1,2", b"a=1&a=2", None),
        ("a", "1,*", b"a=1&a=2", None),
        # Separators.
        ("a", "1", b"b=2;a=1", None),
        ("a", "1", b"a=1;b=2", None),
        ("a", "1", b"b=2;c&a=1", True),
        ("a", "1", b"b=2;a=3", False),
        ("a", "1;b", b"a=1;b", None),
        # Go leaves out parameters with a semicolon or an invalid escape.
        ("a", "1*", b"a=1;b", None),
        ("a", "*", b"a=;", None),
        ("a", "*", b"a=%zz", None),
        ("a", "*", b"a=1%", None),
        ("a", "*", b"a=%25&b=%zz&c=;", True),
        # Spellings of the name.
        ("debug", "1", b"Debug=1", None),
        ("Debug", "1", b"debug=1", None),
        ("debug", "1", b"Debug=2", False),
        ("debug", "1", b"debug=1&DEBUG=2", None),
        ("debug", "*", b"debug=1&DEBUG=2", True),
        ("debug", "1", b"debug[]=1", None),
        ("debug", "1", b"debug%5B%5D=1", None),
        ("debug", "1", b"debug[0]=1", None),
        ("debug", "1", b"debug[x=1", None),
        # Rack removes brackets around a name.
        ("debug", "1", b"[debug]=1", None),
        ("debug", "*", b"%5Bdebug%5D=1", None),
        ("debug", "1", b"debug]=1", None),
        ("debug", "1", b"[[debug=1", None),
        ("debug", "1", b"[Debug][0]=1", None),
        ("debug", "1", b"x&[debug]=2", False),
        ("a[b]", "1", b"[a][b]=1", None),
        ("a[b]", "1", b"a][b]=1", None),
        ("a_b", "1", b"a[b%00c=1", None),
        ("x_", "1", b"x[=1", None),
        ("debug[]", "1", b"debug=1", None),
        ("debug[]", "1", b"debug[0]=1", None),
        ("debug", "1", b"%20debug=1", None),
        ("debug", "1", b"+debug=1", None),
        ("debug", "1", b"debug%00x=1", None),
        ("a.b", "1", b"a_b=1", None),
        ("a_b", "1", b"a.b=1", None),
        ("a_b", "1", b"a+b=1", None),
        ("a_b", "1", b"a[b=1", None),
        ("mask", "1", "mas\u212a=1".encode(), None),
        # Spellings of the value.
        ("a", "x y", b"a=x%20y", True),
        ("a", "x y", b"a=x+y", None),
        ("a", "x+y", b"a=x+y", None),
        ("a", "x+y", b"a=x%2By", True),
        ("a", "x*", b"a=x+y", True),
        ("a", "1", b"a=%2531", None),
        ("a", "%31", b"a=%2531", None),
        ("a", "1", b"a=%2532", False),
        # Some backends end a value at a null byte.
        ("a", "1", b"a=1%00", None),
        ("a", "1", b"a=1%2500x", None),
        ("a", "*", b"a=1%00", True),
        ("a", "50%", b"a=50%25", True),
        # Codes that only some servers decode.
        ("a", "1", b"a=%u0031", None),
        ("a", "1", b"a=%u0032", None),
        ("a", "*", b"a=%u0032", None),
        ("a", "%*", b"a=%u0032", None),
        ("a", "1", b"b=%u0032", False),
        ("a", "1", b"a=%c0%b1", None),
        ("a", "1", b"a=\xc0\xb1", None),
        ("a", "1", b"%u0061=1", None),
        ("a", "1", b"a=1&%u0061=2", None),
        ("a", "1", b"a=1&%25u0061=2", None),
        # UTF-8 and Latin-1.
        ("ü", "ö", b"%c3%bc=%c3%b6", True),
        ("ü", "ö", b"\xc3\xbc=\xc3\xb6", True),
        ("ü", "ö", b"%c3%bc=%f6", None),
        ("ü", "ö", b"\xc3\xbc=\xf6", None),
        ("ü", "ö", b"\xfc=\xf6", None),
        ("ü", "ö", b"\xfc=x", False),
        ("ü", "*", b"\xc3\x9c=x", None),
        ("a", "€", b"a=\x80", False),
    ],
)
def test_conditions(name: str, value: str, query: bytes, expected: bool | None) -> None:
    assert fits(name, value, b"/?" + query) is expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/x%3Fa=1", None),
        (b"/x%253fa=1", None),
        (b"/x%3Fa%3D1", None),
        (b"/x%3Fa=2?a=1", None),
        (b"/x%3Fb?a=1", None),
        (b"/x%3Fa=2", False),
        (b"/x%3Fa=1&b?a=1", True),
        # mod_rewrite puts a decoded path into a query.
        (b"/x%26a=1", None),
        (b"/x%2526a=1?b", None),
        (b"/x&a=1", None),
        (b"/x&a=1&b%3Fc", None),
        (b"/x&a=2", False),
        (b"/x%26b?a=1", True),
    ],
)
def test_a_path_with_a_part_of_the_query(target: bytes, expected: bool | None) -> None:
    assert fits("a", "1", target) is expected


def test_a_query_has_a_maximum_number_of_parameters() -> None:
    assert QueryParameters(b"/?" + b"a=1&" * (MAX_PARAMETERS - 1)).get(b"a")
    for separator in (b"&", b";"):
        with pytest.raises(TooManyParameters, match="256") as refusal:
            QueryParameters(b"/?" + (b"a=1" + separator) * MAX_PARAMETERS)
        assert (refusal.value.status, refusal.value.code) == (400, "too_many_parameters")


def test_all_readings_of_a_query_have_a_maximum_size_together() -> None:
    half = b"&".join([b"a=1"] * (MAX_PARAMETERS // 2))
    assert QueryParameters(b"/x%3F?" + half[4:]).count == 2
    for target in (b"/+%253f?" + half + b";", b"/x%26?" + half, b"/?" + half + b"&a=\xa0"):
        with pytest.raises(TooManyParameters, match="readings"):
            QueryParameters(target)
    long = b"a" * (MAX_QUERY_BYTES - 2)
    assert QueryParameters(b"/?;" + long).count == 2
    with pytest.raises(QueryTooLong, match="readings"):
        QueryParameters(b"/x%26?;" + long)


def test_a_query_has_a_maximum_length() -> None:
    assert QueryParameters(b"/?" + b"a" * MAX_QUERY_BYTES).count == 1
    with pytest.raises(QueryTooLong) as refusal:
        QueryParameters(b"/?" + b"a" * (MAX_QUERY_BYTES + 1))
    assert (refusal.value.status, refusal.value.code) == (414, "query_too_long")


def test_values_are_decoded_once_for_all_conditions() -> None:
    parameters = QueryParameters(b"/?a=%31&A=2")
    assert parameters.get(b"a") is parameters.get(b"a")
    assert parameters.get(b"b") is None


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (b"t=x", b"x"),
        (b"t=x&t=x&t=", b"x"),
        (b"t=%78", b"x"),
        (b"t=x&t=y", b""),
        (b"t=x&T=y", b""),
        (b"t=x;t=y", b""),
        (b"t=x&t[]=y", b""),
        (b"t=x&[t]=y", b""),
        (b"t=x&t]=y", b""),
        (b"t=x+y", b""),
        (b"t=x&%u0074=y", b""),
        (b"s=x", b""),
        (b"T=x", b""),
        (b"t[]=x", b""),
    ],
)
def test_the_only_value(query: bytes, value: bytes) -> None:
    assert QueryParameters(b"/?" + query).only_value("t") == value


# ---- backends

Pairs = list[tuple[bytes, bytes]]
Name = Callable[[bytes], bytes]


def pairs(
    query: bytes, split: Callable[[bytes], list[bytes]], decode: Callable[[bytes], bytes]
) -> Pairs:
    """Return the parameters of a query as one backend reads them."""
    written = [pair.partition(b"=") for pair in split(query)]
    return [(decode(name), decode(value)) for name, _, value in written]


def usual(query: bytes) -> list[bytes]:
    return query.split(b"&")


def with_semicolons(query: bytes) -> list[bytes]:
    return query.replace(b";", b"&").split(b"&")


def go(query: bytes) -> list[bytes]:
    return [pair for pair in query.split(b"&") if not re.search(rb";|%(?![0-9a-fA-F]{2})", pair)]


def http_server(query: bytes) -> list[bytes]:
    return query.rstrip(b"\xa0\x85").split(b"&")


def form(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def twice(text: bytes) -> bytes:
    return unquote_to_bytes(unquote_to_bytes(text))


def c_string(text: bytes) -> bytes:
    return form(text).partition(b"\0")[0]


def php(name: bytes) -> bytes:
    name = name.lstrip(b" ").partition(b"\0")[0]
    if b"[" in name and b"]" in name.partition(b"[")[2]:
        name = name.partition(b"[")[0]
    return name.replace(b" ", b"_").replace(b".", b"_").replace(b"[", b"_")


def rack(name: bytes) -> bytes:
    found = re.match(rb"[\[\]]*([^\[\]]+)\]*", name)
    return name if found is None else found[1]


def same(name: bytes) -> bytes:
    return name


READERS: list[tuple[Callable[[bytes], list[bytes]], Callable[[bytes], bytes], Name]] = [
    (split, decode, name)
    for split in (usual, with_semicolons, go, http_server)
    for decode in (form, unquote_to_bytes, twice, c_string)
    for name in (same, bytes.lower, php, rack)
]
PICKS: list[Callable[[list[bytes]], bytes]] = [
    lambda values: values[0],
    lambda values: values[-1],
    b",".join,
]
PIECES = ["a", "A", "b", "=", "&", ";", "1", "2", "+", "%20", "%61", "%2561", "%3d", "%26", ","]
PIECES += ["[]", "[0]", "[", ".", "_", "%5b%5d", "%00", "%2531", "%31", "a=1", "&a=1", "&b=2"]
PIECES += ["]", "[a]", "%", "\xa0"]


@given(
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.sampled_from(["a", "A", "a.b", "a_b", "a b", "b"]),
    st.sampled_from(["1", "2", "1*", "*", "", "1,2", "1 2"]),
)
@example("a=1&a=2", "a", "1,2")
@example("a[]=1", "a", "1")
@example("a=1;b", "a", "1")
@example("[a]=1", "a", "1")
@example("a=1\xa0", "a", "1")
def test_what_is_certain_is_so_for_each_backend(query: str, name: str, value: str) -> None:
    """Each backend reads a condition as met or not met, as 0Trust does, or it is refused."""
    found = fits(name, value, b"/?" + query.encode("latin-1"))
    if found is None:
        return
    for split, decode, spell in READERS:
        written = pairs(query.encode("latin-1"), split, decode)
        values = [text for key, text in written if spell(key) == spell(name.encode())]
        for pick in PICKS:
            picked = pick(values) if values else None
            if picked is None:
                met = False
            elif value.endswith("*"):
                met = picked.startswith(value[:-1].encode())
            else:
                met = picked == value.encode()
            assert met is found, (split, decode, spell, pick, picked)


@given(st.binary(max_size=40))
def test_any_query_is_read(query: bytes) -> None:
    parameters = QueryParameters(b"/?" + query)
    assert QueryCondition("a", "*").fits(parameters) in (True, False, None)
    assert isinstance(parameters.only_value("a"), bytes)


@given(st.text("ab1", min_size=1), st.text("ab1"), st.lists(st.text("cd=")))
def test_usual_queries_are_never_refused(name: str, value: str, others: list[str]) -> None:
    target = "/?" + "&".join([f"x{other}" for other in others] + [f"{name}={value}"])
    assert fits(name, value, target.encode()) is True
    assert fits(name, value + "x", target.encode()) is False
