"""Numbers in words: rates, bytes, durations and shares, as the dashboard shows them."""

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Final

from markupsafe import Markup

from zerotrust.http.hex_dump import hex_dump

NO_DATA: Final = "no data"
_BYTES: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def count(number: float) -> str:
    """Return a number of things."""
    return NO_DATA if math.isnan(number) else f"{number:,.0f}"


def rate(number: float) -> str:
    """Return a number of things a second."""
    return NO_DATA if math.isnan(number) else f"{_digits(number)}/s"


def share(number: float) -> str:
    """Return a share between 0 and 1 in percent."""
    return NO_DATA if math.isnan(number) else f"{_digits(100 * number)} %"


def size(number: float) -> str:
    """Return a number of bytes."""
    if math.isnan(number):
        return NO_DATA
    unit = 0
    while abs(number) >= 999.5 and unit < len(_BYTES) - 1:
        number /= 1000
        unit += 1
    return f"{_digits(number) if unit else round(number)} {_BYTES[unit]}"


def byte_rate(number: float) -> str:
    """Return a number of bytes a second."""
    return NO_DATA if math.isnan(number) else f"{size(number)}/s"


def duration(seconds: float) -> str:
    """Return a duration: milliseconds, seconds, minutes and so on."""
    if math.isnan(seconds):
        return NO_DATA
    if seconds < 0.9995:
        return f"{_digits(1000 * seconds)} ms"
    if seconds < 59.95:
        return f"{_digits(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} days"


def counted(number: int) -> str:
    """Return a number of connections."""
    return f"{number:,} connection{'' if number == 1 else 's'}"


def clock(seconds: float) -> Markup:
    """Return a time of the last hours in UTC as HTML, to the second; the script shows it in the
    time zone of the browser."""
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return Markup('<time datetime="{}" data-seconds>{}</time>').format(
        f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%H:%M:%S} UTC"
    )


def dump(hex_digits: str) -> str:
    """Return the dump of bytes that are given as hexadecimal digits."""
    return hex_dump(bytes.fromhex(hex_digits))


def _digits(number: float) -> str:
    """Return a number with at most one digit behind the point, and none from 10 on."""
    if abs(number) >= 9.95 or number == 0:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 0.095 else f"{number:.2g}"


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    one.__name__: one
    for one in (count, rate, share, size, byte_rate, duration, counted, clock, dump)
}
"""Filters of the templates."""
