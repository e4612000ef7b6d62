"""Tests of zerotrust.model.proxy."""

import pytest

from zerotrust.model.proxy import NoProxy, Proxy


def parsed(text: str) -> Proxy:
    return Proxy.parse(text, setting="server.proxy")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://proxy.example.com:3128", "http://proxy.example.com:3128"),
        ("HTTP://Proxy.Example.com:3128/", "http://proxy.example.com:3128"),
        ("proxy.example.com:3128", "http://proxy.example.com:3128"),
        (" http://proxy ", "http://proxy:80"),
        ("https://proxy", "https://proxy:443"),
        ("socks5://proxy", "socks5://proxy:1080"),
        ("socks5h://10.0.0.1:9", "socks5://10.0.0.1:9"),
        ("socks5://anna@[2001:db8::1]:9", "socks5://anna@[2001:db8::1]:9"),
    ],
)
def test_parse(text: str, url: str) -> None:
    assert parsed(text).url == url
    assert str(parsed(text)) == f"proxy {url} (server.proxy)"


@pytest.mark.parametrize("text", ["none", "None"])
def test_a_setting_without_a_proxy(text: str) -> None:
    assert Proxy.parse_setting(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("false", "invalid proxy URL: write http://.* or none"),
        ("proxy:3128", "invalid proxy URL: write http://.* or none"),
        ("http://anna:secret@proxy:3128", "the URL has a password: remove it, write it to a file"),
    ],
)
def test_an_invalid_setting_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        Proxy.parse_setting(text)
    assert "secret" not in str(found.value)


def test_a_setting_with_a_user() -> None:
    proxy = Proxy.parse_setting("socks5://anna:@proxy:1080")
    assert proxy is not None
    assert (proxy.user, proxy.password, proxy.setting) == ("anna", "", "server.proxy")


def test_the_user_in_the_url_is_encoded() -> None:
    proxy = parsed("http://an%40n%22a:x@proxy:3128")
    assert proxy.url == "http://an%40n%22a@proxy:3128"
    assert parsed(proxy.url).user == 'an@n"a'


def test_the_password_is_in_no_text() -> None:
    proxy = parsed("http://an%40na:s%3Acret%2F@proxy:3128")
    assert (proxy.user, proxy.password) == ("an@na", "s:cret/")
    assert "cret" not in f"{proxy} {proxy!r} {proxy.url}"
    assert proxy.with_password("other").password == "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://proxy:21", "unknown kind of proxy: write http://proxy.example.com:3128 or"),
        ("socks4://proxy:21", "unknown kind of proxy"),
        ("http://", "invalid proxy URL"),
        ('http://a"b:80', "invalid proxy URL"),
        ("http://proxy:0", "invalid proxy URL"),
        ("http://proxy:99999", "invalid proxy URL"),
        ("http://proxy:port", "invalid proxy URL"),
        ("http://[::1:80", "invalid proxy URL"),
        ("http://proxy:80/path", "invalid proxy URL"),
        ("http://proxy:80?a", "invalid proxy URL"),
        ("http://proxy:80#a", "invalid proxy URL"),
        ("http://a:secret@proxy/path", "invalid proxy URL"),
        ("http://:secret@proxy:80", "a password needs a user: write http://USER@proxy:80"),
        ("http://a%3Ab:secret@proxy:80", "the user of a proxy cannot have a colon"),
        ("http://a:secret%0d%0a@proxy:80", "is too long or has control characters"),
        (f"http://{'a' * 256}@proxy:80", "is too long or has control characters"),
    ],
)
def test_an_invalid_url_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        parsed(text)
    assert "secret" not in str(found.value)
    assert found.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("*", "a.example.com", 8443),
        ("example.com", "example.com", 8443),
        ("example.com", "A.Example.com.", 8443),
        (".example.com", "a.b.example.com", 8443),
        ("*.example.com", "a.example.com", 8443),
        ("x, example.com:8443 y", "example.com", 8443),
        ("10.0.0.0/8", "10.1.2.3", 8443),
        ("10.1.2.3", "10.1.2.3", 8443),
        ("10.1.2.3:8443", "10.1.2.3", 8443),
        ("2001:db8::/32", "2001:db8::1", 8443),
        ("[2001:db8::1]", "2001:db8::1", 8443),
        ("2001:db8::1", "2001:db8:0::1", 8443),
        ("[2001:db8::1]:8443", "2001:db8::1", 8443),
    ],
)
def test_no_proxy_covers(text: str, host: str, port: int) -> None:
    assert NoProxy(text).covers(host, port)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("", "example.com", 8443),
        (",, ", "example.com", 8443),
        ("example.com", "badexample.com", 8443),
        ("example.com", "example.com.evil", 8443),
        ("example.com:443", "example.com", 8443),
        ("10.0.0.0/8", "11.1.2.3", 8443),
        ("10.0.0.0/8", "example.com", 8443),
        ("10.0.0.0/8", "2001:db8::1", 8443),
        ("10.1.2.3:443", "10.1.2.3", 8443),
        ("2.3", "10.1.2.3", 8443),
        ("[2001:db8::1]:443", "2001:db8::1", 8443),
    ],
)
def test_no_proxy_does_not_cover(text: str, host: str, port: int) -> None:
    assert not NoProxy(text).covers(host, port)
