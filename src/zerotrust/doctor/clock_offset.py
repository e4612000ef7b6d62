"""Check of clocks: this machine's against those of the server, a provider or an authority."""

from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Final

from zerotrust.model.doctor import Finding

TOLERATED: Final = 60.0
"""Seconds that sign-in tokens tolerate."""
BROKEN: Final = 300.0
"""Seconds that new certificates tolerate: they are valid from five minutes before their issue."""
_ZONE_STEP: Final = 1800
_ZONE_MOST: Final = 14 * 3600
_ZONE_SLACK: Final = 300.0


def judge_clock(ahead: float | None, *, whose: str) -> Iterator[Finding]:
    """Yield a finding if two clocks differ too much.

    Args:
        ahead: seconds that the other clock is ahead; None if unknown.
        whose: the owner of the other clock, as in "the server".
    """
    if ahead is None or abs(ahead) <= TOLERATED:
        return
    direction = "behind" if ahead > 0 else "ahead of"
    zone = zone_mistake(ahead)
    seen = f"{_span(abs(ahead))} {direction} that of {whose}"
    yield Finding(
        check="clock.offset",
        level="broken" if abs(ahead) > BROKEN else "warning",
        subject=whose,
        what="the clock of this machine is wrong",
        seen=seen + (f", about {zone}: local time was set as UTC" if zone else ""),
        fix="set the clock to UTC and the time zone separately: timedatectl set-ntp true"
        if zone
        else "let the system set it: timedatectl set-ntp true",
    )


def zone_mistake(seconds: float) -> str:
    """Return a difference that is about the offset of a time zone, as text; empty for others."""
    size = abs(seconds)
    steps = round(size / _ZONE_STEP)
    whole = steps * _ZONE_STEP
    if not steps or whole > _ZONE_MOST or abs(size - whole) > _ZONE_SLACK:
        return ""
    hours = steps / 2
    return f"{hours:g} hour{'' if hours == 1 else 's'}"


def date_ahead(field: str, *, now: float) -> float | None:
    """Return the seconds that the clock behind a Date field is ahead; None if it has no date."""
    try:
        return parsedate_to_datetime(field).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return None


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 2 * 86400 else f"{seconds / 86400:.0f} days"
