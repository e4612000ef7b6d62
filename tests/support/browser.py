"""Chromium driven by Playwright, which trusts the certificate of one service only.

A strict client first verifies the service's certificate with Caddy's root and reads its key.
Chromium then trusts this key (`--ignore-certificate-errors-spki-list`), because its own root store
can only be changed for the whole user.

Chromium ends its HTTP/2 connections, with ERR_NETWORK_CHANGED, when an address of the machine comes
or goes, also one that it does not use. Tests that run at the same time lay cables to namespaces. So
Chromium is kept from hearing of addresses (`fixed_network.c`).
"""

import base64
import contextlib
import functools
import hashlib
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.support import preloaded_library
from tests.support.entrypoint import trusting
from tests.support.processes import ROOT

BUILD = ROOT / "build"
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def executable(*, with_settings: bool = False) -> str:
    """Return the Chromium of this machine; the headless shell, which takes half the processor time.

    Args:
        with_settings: the browser must have the settings of a user, which the shell has not.
    """
    names = ["chromium", "chromium-browser", "google-chrome"]
    if not with_settings:
        names.insert(0, "chromium-headless-shell")
    for name in names:
        if found := shutil.which(name):
            return found
    raise AssertionError("no Chromium is installed; on Debian: apt-get install chromium")


def verified_key(host: str, port: int, root: Path) -> str:
    """Verify a service's certificate with the root; return the hash of its key."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as raw:
        with trusting(root).wrap_socket(raw, server_hostname=host) as tls:
            shown = tls.getpeercert(binary_form=True)
    assert shown
    return key_of(x509.load_der_x509_certificate(shown))


def key_of(certificate: x509.Certificate) -> str:
    """Return the hash of a certificate's key, by which a browser can be told to trust it."""
    key = certificate.public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


@dataclass
class PageErrors:
    """Errors that a page reports, and the WebSockets that it opens."""

    errors: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on(
            "console", lambda line: self.errors.append(line.text) if line.type == "error" else None
        )
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("websocket", lambda socket: self.sockets.append(socket.url))


@contextlib.asynccontextmanager
async def browser(*trusted_keys: str, options: Sequence[str] = ()) -> AsyncIterator[Browser]:
    """Start a browser that also trusts these keys, with more options of its command line."""
    arguments = [*_arguments(trusted_keys), *options]
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=executable(), args=arguments, env=_environment()
        )
        yield started
        await started.close()


@contextlib.asynccontextmanager
async def chromium(*trusted_keys: str, scheme: str = "light") -> AsyncIterator[BrowserContext]:
    """Start a browser that also trusts these keys, with one set of cookies."""
    async with browser(*trusted_keys) as started, cookies(started, scheme=scheme) as context:
        yield context


@contextlib.asynccontextmanager
async def cookies(started: Browser, *, scheme: str = "light") -> AsyncIterator[BrowserContext]:
    """Open a window of a running browser, with a set of cookies of its own."""
    context = await started.new_context(
        viewport={"width": 1200, "height": 850},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    yield context
    await context.close()


@contextlib.asynccontextmanager
async def chromium_without_cookies(
    profile: Path, host: str, *trusted_keys: str
) -> AsyncIterator[BrowserContext]:
    """Start a browser whose user has blocked the cookies of a host name in the settings.

    Args:
        profile: a new folder.
    """
    blocked = {"exceptions": {"cookies": {f"https://{host},*": {"setting": 2}}}}
    preferences = profile / "Default" / "Preferences"
    preferences.parent.mkdir(parents=True)
    preferences.write_text(json.dumps({"profile": {"content_settings": blocked}}))
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            profile,
            executable_path=executable(with_settings=True),
            args=_arguments(trusted_keys),
            env=_environment(),
        )
        yield context
        await context.close()


def _arguments(trusted_keys: Sequence[str]) -> list[str]:
    if not trusted_keys:
        return OPTIONS
    return [*OPTIONS, f"--ignore-certificate-errors-spki-list={','.join(trusted_keys)}"]


@functools.cache
def _environment() -> dict[str, str | float | bool]:
    BUILD.mkdir(exist_ok=True)
    library = preloaded_library.build("fixed_network.c", BUILD)
    return {**os.environ, "LD_PRELOAD": str(library)}
