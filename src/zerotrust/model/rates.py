"""Rates and sizes in a configuration: "1000/minute", "10MB/s", "10MB"."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator

_SECONDS: Final = {
    name: seconds
    for names, seconds in (
        ("s sec second", 1),
        ("m min minute", 60),
        ("h hour", 3600),
        ("d day", 86400),
    )
    for name in names.split()
}
_REQUESTS: Final = re.compile(r"(\d{1,9})\s*(?:/|per)\s*([a-z]+)", re.IGNORECASE | re.ASCII)
_BYTES: Final = re.compile(
    r"(\d{1,12}(?:\.\d{1,6})?)\s*([kmgt]?)(i?)(b|bits?)(?:/s|/sec|/second|ps)",
    re.ASCII | re.IGNORECASE,
)
_SIZE: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([kmgt]?)(i?)b?", re.ASCII)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_rate(text: str) -> tuple[int, int]:
    """Return the requests and the seconds of "1000/minute", "10/s" or "5 per hour".

    Raises:
        ValueError: not a rate, or 0 requests.
    """
    match = _REQUESTS.fullmatch(text.strip())
    if match is not None:
        count, unit = int(match[1]), match[2].lower()
        seconds = _SECONDS.get(unit) or _SECONDS.get(unit.removesuffix("s"))
        if count and seconds:
            return count, seconds
    raise ValueError(f'invalid rate "{text[:60]}": use 1000/minute, 10/s or 100/hour')


def parse_byte_rate(text: str) -> float:
    """Return the bytes per second of "10MB/s", "512KiB/s" or "100Mbit/s".

    MB is 10^6 bytes, MiB 2^20 bytes, Mbit 10^6 bits. A lower-case b ("10Mb/s", "10mbps") is
    refused, because it means bits to some people and bytes to others.

    Raises:
        ValueError: not a rate, or less than 1 KiB per second.
    """
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'invalid rate "{text[:60]}": use 10MB/s, 512KiB/s or 100Mbit/s')
    number, power, binary, unit = match.groups()
    if unit == "b":
        prefix = f"{number}{power.upper()}{binary}"
        raise ValueError(
            f'ambiguous rate "{text[:60]}" (bits or bytes?): use {prefix}bit/s or {prefix}B/s'
        )
    factor: int = (1024 if binary else 1000) ** _POWERS[power.lower()]
    rate = float(number) * factor / (1 if unit == "B" else 8)
    if rate < 1024:
        raise ValueError(f'rate "{text[:60]}" is too low: must be at least 1KiB/s')
    return rate


def parse_byte_size(text: str) -> int:
    """Return the bytes of "10MB", "512KiB" or "4096" (k is 1000, Ki is 1024).

    Raises:
        ValueError: not a size.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None or (match[3] and not match[2]):
        raise ValueError(f'invalid size "{text[:60]}": use 10MB, 512KiB or a number of bytes')
    number, power, binary = match.groups()
    factor: int = (1024 if binary else 1000) ** _POWERS[power]
    return int(float(number) * factor)


def _rate(value: str) -> str:
    parse_rate(value)
    return value


def _byte_rate(value: str) -> str:
    parse_byte_rate(value)
    return value


def _byte_size(value: str) -> str:
    parse_byte_size(value)
    return value


Rate = Annotated[str, AfterValidator(_rate)]
"""Requests per time, as written. `parse_rate` reads it."""

ByteRate = Annotated[str, AfterValidator(_byte_rate)]
"""Bytes per second, as written. `parse_byte_rate` reads it."""

ByteSize = Annotated[str, AfterValidator(_byte_size)]
"""Bytes, as written. `parse_byte_size` reads it."""
