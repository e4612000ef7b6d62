"""Warnings for overlapping grants: a wildcard of one agent and a host name below it of another.

A wildcard `*.lab.example.com` of one agent matches `a.lab.example.com` of another: each gets a
share of the requests. Agents with the same pattern share it on purpose.
"""

from collections.abc import Collection
from typing import Final

from zerotrust.enrollment.grant_table import Grant, GrantTable

MAX_WARNINGS: Final = 10
"""Warnings shown; the rest is counted."""


def overlap_warnings(table: GrantTable, new: Collection[Grant]) -> list[str]:
    """Return a warning for each overlap of new grants with all that the table has."""
    found = [(wide, named) for wide, named in table.overlaps() if wide in new or named in new]
    texts = [text(wide, named) for wide, named in found[:MAX_WARNINGS]]
    if len(found) > MAX_WARNINGS:
        texts.append(
            f"{len(found) - MAX_WARNINGS} more host names are granted to two agents in this way"
        )
    return texts


def text(wide: Grant, named: Grant) -> str:
    """Return the warning for a grant of a wildcard and one of a host name below it."""
    (holder, wildcard), (agent, host) = wide, named
    return (
        f'"{wildcard}" is granted to {holder} and "{host}" to {agent}: both may serve {host}; '
        f"grant it to {holder} by name too if that is meant, else take one of the two grants back"
    )
