"""Tests of zerotrust.model.base."""

import re

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from zerotrust.model.base import (
    Duration,
    HostName,
    HostPattern,
    Listen,
    is_loopback,
    is_pattern,
    normalise_host,
    parse_duration,
    parse_host_port,
    parse_pattern,
    patterns_of,
    split_address,
)

DURATION: TypeAdapter[float] = TypeAdapter(Duration)
HOST: TypeAdapter[str] = TypeAdapter(HostName)
PATTERN: TypeAdapter[str] = TypeAdapter(HostPattern)
LISTEN: TypeAdapter[str] = TypeAdapter(Listen)

DEVIATIONS = "ß\u1e9eς\u200c\u200d"
"""Characters that IDNA 2003 and IDNA 2008 read differently, and the capital of one."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        (" 1d ", 86400),
        (90, 90),
        (0.25, 0.25),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert DURATION.validate_python(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "s",
        "-1s",
        "1 s",
        "1s2",
        "5 minutes",
        True,
        None,
        [],
        -1,
        float("nan"),
        "1" * 99999,
    ],
)
def test_invalid_durations(text: object) -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python(text)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(
    hours: int, minutes: int, seconds: int, thousandths: int
) -> None:
    text = f"{hours}h{minutes}m{seconds}s{thousandths}ms"
    assert parse_duration(text) == pytest.approx(
        hours * 3600 + minutes * 60 + seconds + thousandths / 1000
    )


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("App.Example.COM", "app.example.com"),
        ("app.example.com.", "app.example.com"),
        ("app.example.com:8443", "app.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[2001:DB8:0::1]:443", "[2001:db8::1]"),
        ("under_score", "under_score"),
        ("_a.ＢÜＣＨＥＲ。example。", "_a.xn--bcher-kva.example"),
        (
            "ΣΟΦΟΣ.example",
            "xn--0xaakcn.example",
        ),  # the last Σ is no ς: UTS 46 knows no position, str.lower does
        ("xn--fa-hia.example", "xn--fa-hia.example"),
        (
            "XN--zzzzzz99999.example",
            "xn--zzzzzz99999.example",
        ),  # in a Host field, where it does no harm
    ],
)
def test_host_names_have_one_form(host: str, name: str) -> None:
    assert normalise_host(host) == name


@pytest.mark.parametrize(
    "host",
    [
        "[::1%eth0]",
        "",
        ".",
        "a..b",
        "-a",
        "a-",
        "a b",
        "a:b",
        "[::1",
        "[::1]x",
        "[x]",
        "x" * 64,
        "a/b",
        "\ud800",
    ],
)
def test_invalid_host_names(host: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        normalise_host(host)


@pytest.mark.parametrize(
    ("host", "letter", "form"),
    [
        ("faß.example", "ß", "xn--fa-hia.example"),
        ("FA\u1e9e.example", "ß", "xn--fa-hia.example"),
        ("βόλος.example", "ς", "xn--nxasmm1c.example"),
        (
            "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example",
            "U+200C",
            "xn--mgba3gch31f060k.example",
        ),
        ("ශ්\u200dරී.example", "U+200D", "xn--10cl1a0b660p.example"),
    ],
)
def test_a_name_with_two_meanings_is_refused_with_the_form_to_write(
    host: str, letter: str, form: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(letter)) as refused:
        normalise_host(host)
    assert form in str(refused.value)
    assert HOST.validate_python(form) == form
    assert PATTERN.validate_python(f"*.{form}") == f"*.{form}"


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("a\u200db.example", "joiner"),  # a joiner between Latin letters: IDNA 2003 dropped it
        ("☃.example", "not allowed"),
        ("\u0301a.example", "combining"),
        ("xn--ü.example", "hyphens"),
        ("aא.example", "direction"),
        ("\uff0a.bücher.example", "not a host name"),
    ],
)
def test_a_name_that_idna_does_not_allow_is_refused_with_the_reason(host: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"(?i){reason}"):
        normalise_host(host)


@pytest.mark.parametrize(
    "label",
    [
        "xn--a",
        "xn---bbk",  # another spelling of xn--bbk
        "xn--zzzzzz99999",
        "xn--tiq49xqyj-z7g",
        "xn--strae-oqa.xn--a",
    ],
)
def test_an_a_label_that_stands_for_no_unicode_label_is_refused_in_files(label: str) -> None:
    assert normalise_host(f"{label}.example")  # a Host field is only compared
    for kind, name in (
        (HOST, f"{label}.example"),
        (PATTERN, f"{label}.example"),
        (PATTERN, f"*.{label}.example"),
    ):
        with pytest.raises(ValidationError, match="is not an internationalised"):
            kind.validate_python(name)


def test_an_emoji_that_browsers_reach_is_named_by_its_a_label() -> None:
    assert HOST.validate_python("xn--i-7iq.example") == "xn--i-7iq.example"


@given(
    st.lists(
        st.text("aäéλ\u03c3ςßжあ漢한\u200c\u200dאب-_1", min_size=1, max_size=8),
        min_size=1,
        max_size=3,
    ).map(".".join)
)
def test_accepted_names_are_those_of_idna_2008(host: str) -> None:
    try:
        name = normalise_host(host)
    except ValueError:
        return
    assert all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in name.split("."))
    assert normalise_host(name) == name
    for written, form in zip(host.split("."), name.split("."), strict=True):
        if not form.startswith("xn--"):
            assert written == form
            continue
        assert not set(written) & set(DEVIATIONS)
        assert idna.encode(written, uts46=True).decode() == form
        assert HOST.validate_python(form) == form


@given(
    st.text("abz09-", max_size=12).map(lambda text: f"xn--{text}")
    | st.from_regex(r"\Axn--[a-z0-9-]{1,59}\Z")
)
def test_an_a_label_is_accepted_as_it_is_or_refused(label: str) -> None:
    try:
        assert HOST.validate_python(label) == label
    except ValidationError:
        with pytest.raises(idna.IDNAError):
            idna.ulabel(label)


@given(st.text(max_size=20) | st.from_regex(r"[A-Za-zäßİ0-9.\-_。:\[\]]{1,20}", fullmatch=True))
def test_a_normal_form_is_its_own_normal_form_or_the_name_is_refused(host: str) -> None:
    try:
        name = normalise_host(host)
    except ValueError:
        return
    assert normalise_host(name) == name
    assert all(
        re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in name.split(".")
    ) or name.startswith("[")


@pytest.mark.parametrize("host", ["https://a.example.com", "a.example.com/x", "*.*.example.com"])
def test_a_service_has_a_plain_host_name(host: str) -> None:
    with pytest.raises(ValidationError):
        HOST.validate_python(host)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("App.Example.com:8443", "app.example.com"),
        ("*.Apps.example.com", "*.apps.example.com"),
        (" * ", "*"),
    ],
)
def test_a_service_may_have_a_wildcard(text: str, name: str) -> None:
    assert HOST.validate_python(text) == name
    assert is_pattern(name) is ("*" in name)


def test_the_patterns_of_a_host_begin_with_the_most_specific_one() -> None:
    assert patterns_of("a.b.example") == ("a.b.example", "*.b.example", "*")
    assert not set(patterns_of("nas")[1:2]) & {"*", "nas"}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        (":8443", ("", 8443)),
        ("[::1]:1", ("::1", 1)),
        ("host:0", ("host", 0)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


def test_addresses_with_defaults() -> None:
    assert split_address("host", default_port=80) == ("host", 80)
    assert split_address("[::1]", default_port=80) == ("::1", 80)
    assert split_address(":1", default_host="any") == ("any", 1)


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:", "host:x", "host:65536", "::1:80", "[::1]", "[::1]80", "[x]:1", "a:²"],
)
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        split_address(text)


@given(st.integers(0, 65535), st.ip_addresses())
def test_an_address_is_split_into_its_parts(port: int, host: object) -> None:
    text = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    assert split_address(text) == (str(host), port)


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        _, port = split_address(text)
    except ValueError:
        return
    assert 0 <= port <= 65535


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Tunnel.Example.com.:8443", "tunnel.example.com:8443"),
        ("[::0001]:1", "[::1]:1"),
        ("203.0.113.7:65535", "203.0.113.7:65535"),
        ("bücher.example:1", "xn--bcher-kva.example:1"),
    ],
)
def test_an_address_to_connect_to_has_one_form(text: str, address: str) -> None:
    assert parse_host_port(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", ":8443", "host", "host:0", "host:65536", "a b:1", "http://host:1", "*.host:1"),
        *("::1:1", "[fe80::1%eth0]:1", "user@host:1", "host:1/path"),
    ],
)
def test_an_address_to_connect_to_is_host_and_port(text: str) -> None:
    with pytest.raises(ValueError):
        parse_host_port(text)


def test_listening_addresses() -> None:
    assert LISTEN.validate_python("unix:/run/x.sock") == "unix:/run/x.sock"
    for text in ("unix:", "host"):
        with pytest.raises(ValidationError):
            LISTEN.validate_python(text)


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [
        ("unix:/x", True),
        ("localhost:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        (":1", False),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("example.com:1", False),
        ("10.0.0.1:1", False),
    ],
)
def test_loopback_addresses(listen: str, loopback: bool) -> None:
    assert is_loopback(listen) is loopback


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (" App.Example.com ", "app.example.com"),
        ("*.Lab.example.com", "*.lab.example.com"),
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "[::1]"),
        ("*", "*"),
    ],
)
def test_a_host_pattern_has_one_form(text: str, pattern: str) -> None:
    assert parse_pattern(text) == pattern


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("https://app.example.com", "is a URL"),
        ("a.*.example.com", "must be the whole first label"),
        ("**", "must be the whole first label"),
        ("app.example.com:443", "has a port"),
        ("[::1]:443", "has a port"),
        ("*.10.0.0.1", "cannot have a wildcard"),
        ("*.[::1]", "cannot have a wildcard"),
    ],
)
def test_an_invalid_host_pattern_names_its_problem(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_pattern(text)
