"""Patterns of request paths, as routes and rules of access write them."""

from typing import Annotated

from pydantic import AfterValidator


def check_path_pattern(value: str) -> str:
    """Return the pattern if a request can match it.

    Raises:
        ValueError: no request matches it.
    """
    if value and value[0] not in "/*":
        raise ValueError(f'"{value}" matches no request: a path begins with /, as in /{value}')
    if any(sign in value for sign in "?#;\\") or "%2f" in value.lower():
        raise ValueError(
            f'"{value}": write only the path, with / between its segments; put conditions on'
            " the query in query"
        )
    if "//" in value or {".", ".."} & set(value.split("/")):
        raise ValueError(f'"{value}" matches no request: write the path without //, . and ..')
    return value


def _check(value: str) -> str:
    if not value:
        raise ValueError("is empty: write a path such as /admin/*")
    if "?" in value:
        raise ValueError(f'"{value}" has a query: write only the path; queries open nothing')
    return check_path_pattern(value)


PathPattern = Annotated[str, AfterValidator(_check)]
"""Pattern of a path: `/admin` is that path only, `/admin/*` is that path and all below it."""
