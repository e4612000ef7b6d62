"""Warnings for grants wider than a registered domain: `*.co.uk`, `*.github.io`, `co.uk` itself.

The library brings the public suffix list (publicsuffix.org): nothing is fetched. Names below a
top-level domain that is not in the list, such as `*.lan`, cause no warning.
"""

from functools import cache
from typing import Final

from publicsuffixlist import PublicSuffixList

_OWN: Final = "home.arpa"
"""In the list, but private to each home network (RFC 8375)."""


def warning(pattern: str) -> str | None:
    """Return a warning about granting this pattern; None if there is none."""
    name = pattern.removeprefix("*.")
    if name == _OWN or _suffixes().publicsuffix(name) != name:
        return None
    if name == pattern:
        return f'"{pattern}" is a public suffix, which many owners share; use YOUR-DOMAIN.{name}'
    return (
        f'"{pattern}" matches domains of all owners under the public suffix "{name}"; use'
        f" *.YOUR-DOMAIN.{name}"
    )


def registered_domain(name: str) -> str:
    """Return the public suffix of a host name and one label more: the domain that somebody has
    registered.

    Below a top-level domain that is not in the list, the last two labels.
    """
    return _suffixes().privatesuffix(name) or ".".join(name.split(".")[-2:])


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)
