"""Forms: urlencoded, bounded, each field once."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from zerotrust.errors import AccessError

MAX_FORM: Final = 32 * 1024
"""Longest form in bytes. A registration with an attestation has about 3 KiB."""
MAX_FIELDS: Final = 32

_TYPE: Final = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of a request's form.

    Raises:
        AccessError: it is no urlencoded form, is too large, or has a field twice.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise AccessError("this page accepts urlencoded forms only")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise AccessError("the form is too large")
    return parse_form(bytes(body))


def parse_form(body: bytes) -> dict[str, str]:
    """Return the fields of an urlencoded form.

    Raises:
        AccessError: it is malformed, has too many fields, or one of them twice.
    """
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError:
        raise AccessError("the form is malformed") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise AccessError("the form has a field twice")
    return fields
