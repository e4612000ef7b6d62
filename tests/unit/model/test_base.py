"""Tests of zerotrust.model.base."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from zerotrust.model.base import Duration, HostName, Listen, is_loopback, normalise_host, parse_duration, split_address

DURATION: TypeAdapter[float] = TypeAdapter(Duration)
HOST: TypeAdapter[str] = TypeAdapter(HostName)
LISTEN: TypeAdapter[str] = TypeAdapter(Listen)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5400), ("500ms", 0.5), ("1.5s", 1.5), (" 1d ", 86400), (90, 90), (0.25, 0.25)],
)
def test_durations(text: object, seconds: float) -> None:
    assert DURATION.validate_python(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1 s", "1s2", "5 minutes", True, None, [], -1, float("nan")])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python(text)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int, thousandths: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s{thousandths}ms"
    assert parse_duration(text) == pytest.approx(hours * 3600 + minutes * 60 + seconds + thousandths / 1000)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("App.Example.COM", "app.example.com"),
        ("app.example.com.", "app.example.com"),
        ("app.example.com:8443", "app.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[2001:DB8:0::1]:443", "[2001:db8::1]"),
        ("under_score", "under_score"),
    ],
)
def test_host_names_have_one_form(host: str, name: str) -> None:
    assert normalise_host(host) == name


@pytest.mark.parametrize(
    "host",
    ["[::1%eth0]", "", ".", "a..b", "-a", "a-", "a b", "a:b", "[::1", "[::1]x", "[x]", "x" * 64, "a/b", "\ud800"],
)
def test_what_is_no_host_name(host: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        normalise_host(host)


@given(st.text(max_size=20) | st.from_regex(r"[A-Za-zäßİ0-9.\-_。:\[\]]{1,20}", fullmatch=True))
def test_a_normal_form_is_its_own_normal_form_or_the_name_is_refused(host: str) -> None:
    try:
        name = normalise_host(host)
    except ValueError:
        return
    assert normalise_host(name) == name
    assert name.isascii()
    assert name == name.lower()


@pytest.mark.parametrize("host", ["https://a.example.com", "a.example.com/x", "*.example.com"])
def test_a_service_has_a_plain_host_name(host: str) -> None:
    with pytest.raises(ValidationError):
        HOST.validate_python(host)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), (":8443", ("", 8443)), ("[::1]:1", ("::1", 1)), ("host:0", ("host", 0))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


def test_addresses_with_defaults() -> None:
    assert split_address("host", default_port=80) == ("host", 80)
    assert split_address("[::1]", default_port=80) == ("::1", 80)
    assert split_address(":1", default_host="any") == ("any", 1)


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:x", "host:65536", "::1:80", "[::1]", "[::1]80", "[x]:1", "a:²"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        split_address(text)


@given(st.integers(0, 65535), st.ip_addresses())
def test_an_address_survives(port: int, host: object) -> None:
    text = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    assert split_address(text) == (str(host), port)


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        _, port = split_address(text)
    except ValueError:
        return
    assert 0 <= port <= 65535


def test_where_to_listen() -> None:
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
def test_what_only_this_machine_reaches(listen: str, loopback: bool) -> None:
    assert is_loopback(listen) is loopback
