"""Package structlog, imported without rich.

structlog imports rich if it is installed, for colourful tracebacks. Logs have plain ones, and an
agent saves a tenth of its start time and 5 MiB.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Raise ImportError for a package inside the context."""
    loaded = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]  # as documented for the import system
    try:
        yield
    finally:
        del sys.modules[package]
        if loaded is not None:
            sys.modules[package] = loaded


with _hidden("rich"):
    import structlog

__all__ = ["structlog"]
