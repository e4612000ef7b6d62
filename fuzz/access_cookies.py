"""Fuzz target: no cookie of the server reaches a backend, and no backend sets one.

Run: python fuzz/access_cookies.py -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["zerotrust.access"]):
    from zerotrust.access.cookies import (
        COOKIE,
        WAY,
        cookie_value,
        without_own,
        without_own_set_cookie,
    )

_OWN = {COOKIE.lower(), WAY.lower()}


def one_field(data: bytes) -> None:
    left = without_own(data)
    assert without_own(left) == left
    for pair in left.replace(b",", b";").split(b";"):
        assert pair.partition(b"=")[0].strip(b" \t\"'").lower() not in _OWN, left
    value = cookie_value(COOKIE, [data])
    assert value is None or value in data
    assert cookie_value(COOKIE, [left]) is None


def one_block(data: bytes) -> None:
    block = b"HTTP/1.1 200 OK\r\n" + data + b"\r\n"
    for line in without_own_set_cookie(block).split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"set-cookie":
            assert value.partition(b"=")[0].strip(b" \t").lower() not in _OWN, line


def test_one_input(data: bytes) -> None:
    line = data.translate(None, b"\r\n\0")
    one_field(line)
    one_field(b"a=b; " + line + b"; __Host-0trust=" + b"A" * 43)
    one_block(b"Set-Cookie: " + line)
    one_block(data.replace(b"\n", b"\r\n"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
