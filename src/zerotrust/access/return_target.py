"""Target to which a browser returns after signing in: a path and a query, never a URL.

Browsers read `//host`, `/\\host` and, after they have dropped tabs and line ends, `/<tab>/host` as
URLs of another host. What is not plainly a path of the same host becomes `/`.
"""

import re
from typing import Final

MAX_TARGET: Final = 2048
"""Longest target in bytes. A longer one is cut to its path."""

_TARGET: Final = re.compile(r"/(?![/\\])[!-\[\]-~]*")


def safe_target(text: str) -> str:
    """Return the target if it is a path with or without a query, else `/`.

    It begins with one slash, and has printable ASCII characters other than the backslash only. A
    fragment is cut off.
    """
    target = text.partition("#")[0]
    if len(target) > MAX_TARGET:
        target = target.partition("?")[0]
    if len(target) > MAX_TARGET or _TARGET.fullmatch(target) is None:
        return "/"
    return target
