from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from zerotrust.errors import AccessError
from zerotrust.server.portal.forms import MAX_FIELDS, MAX_FORM, parse_form, read_form

URLENCODED = "application/x-www-form-urlencoded"


def request(body: bytes, media_type: str = URLENCODED) -> Request:
    chunks = [body[at : at + 1000] for at in range(0, len(body), 1000)] or [b""]

    async def receive() -> Any:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    headers = [(b"content-type", media_type.encode())] if media_type else []
    return Request({"type": "http", "headers": headers}, receive)


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=30), max_size=8))
def test_each_form_is_read_as_it_was_written(form: dict[str, str]) -> None:
    assert parse_form(urlencode(form).encode()) == form


@given(st.binary(max_size=60))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        fields = parse_form(body)
    except AccessError:
        return
    assert all(isinstance(value, str) for value in fields.values())


@pytest.mark.parametrize(
    "body", [b"a=1&a=2", b"a=%ff", b"a=\xff", b"&".join([b"a"] * (MAX_FIELDS + 1))]
)
def test_malformed_forms_are_refused(body: bytes) -> None:
    with pytest.raises(AccessError):
        parse_form(body)


@pytest.mark.anyio
async def test_forms_come_in_parts() -> None:
    text = "x" * 5000
    assert await read_form(request(f"a={text}&b=+".encode())) == {"a": text, "b": " "}
    assert await read_form(request(b"a=b", f"{URLENCODED.upper()}; charset=UTF-8")) == {"a": "b"}


@pytest.mark.anyio
@pytest.mark.parametrize("media_type", ["", "text/plain", "multipart/form-data; boundary=x"])
async def test_other_media_types_are_refused(media_type: str) -> None:
    with pytest.raises(AccessError, match="urlencoded"):
        await read_form(request(b"a=b", media_type))


@pytest.mark.anyio
async def test_large_forms_are_refused() -> None:
    with pytest.raises(AccessError, match="too large"):
        await read_form(request(b"a=" + b"x" * MAX_FORM))
