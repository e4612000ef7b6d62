"""A warning for what is wider than anybody's own domain: `*.co.uk`, `*.github.io`, `co.uk` itself.

By the public suffix list (publicsuffix.org), as the library carries it: nothing is fetched. Names below a top-level
domain that nobody has registered, such as `*.lan`, are their owner's affair.
"""

from functools import cache
from typing import Final

from publicsuffixlist import PublicSuffixList

_OWN: Final = "home.arpa"
"""Listed, but every home has its own (RFC 8375)."""


def warning(pattern: str) -> str | None:
    """What is to be thought about before this pattern is granted; None where nothing is."""
    name = pattern.removeprefix("*.")
    if name == _OWN or _suffixes().publicsuffix(name) != name:
        return None
    if name == pattern:
        return f'"{pattern}" is a public suffix, under which everybody has domains; grant YOUR-DOMAIN.{name}'
    return f'"{pattern}" is for the domains of everybody under the public suffix "{name}"; grant *.YOUR-DOMAIN.{name}'


def registered_domain(name: str) -> str:
    """Return the public suffix of a host name and one label more: the domain that somebody has registered.

    Below a top-level domain that is not in the list, the last two labels.
    """
    return _suffixes().privatesuffix(name) or ".".join(name.split(".")[-2:])


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)
