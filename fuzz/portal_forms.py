"""Fuzz target: what browsers send to the server's own pages is read or refused, and is bounded.

Run: python fuzz/portal_forms.py -max_total_time=60
"""

import sys
from urllib.parse import urlsplit

import atheris

with atheris.instrument_imports(include=["zerotrust.access", "zerotrust.server.portal"]):
    from zerotrust.access.hand_over import Arrival, Attempt
    from zerotrust.access.return_target import MAX_TARGET, safe_target
    from zerotrust.errors import AccessError
    from zerotrust.server.portal.device_names import device_name
    from zerotrust.server.portal.forms import MAX_FIELDS, parse_form


def one_target(text: str) -> None:
    target = safe_target(text)
    assert safe_target(target) == target
    assert len(target) <= MAX_TARGET
    assert target.startswith("/") and target.isascii() and target.isprintable()
    assert not set(target) & set("\\# ")
    parts = urlsplit(f"https://host{target}")
    assert (parts.scheme, parts.netloc) == ("https", "host")
    # As a browser resolves it: without a second slash, it is a path of the same host.
    assert not target.startswith("//")


def one_query(query: str) -> None:
    for kind in (Attempt, Arrival):
        read = kind.from_query(query)
        if read is None:
            continue
        assert read.to == safe_target(read.to)
        assert kind.from_query(read.to_query()) == read
        assert read.to_query().isascii()


def one_form(body: bytes) -> None:
    try:
        fields = parse_form(body)
    except AccessError:
        return
    assert len(fields) <= MAX_FIELDS


def test_one_input(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    one_target(text)
    one_target("/" + text)
    one_query(text)
    one_query(f"host=app.example.com&n={'n' * 22}&ch={'c' * 43}&to={text}")
    one_query(f"code={'c' * 43}&n={'n' * 22}&to={text}")
    one_form(data)
    assert len(device_name(text)) <= 60


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
