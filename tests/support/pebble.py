"""Pebble, an ACME authority for tests, and the DNS that it asks."""

import asyncio
import fcntl
import ipaddress
import itertools
import json
import os
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import pytest

from tests.support.ports import free_port
from tests.support.processes import ROOT, Process, wait_port

VERSION: Final = "v2.10.3"
BUILD_TIMEOUT: Final = 200.0
"""Seconds; it takes less than one minute where Go loads and compiles everything."""
FOLDER: Final = ROOT / "build/pebble" / VERSION
_A: Final = b"\x00\x01"
"""Type of a question for IPv4 addresses (RFC 1035 s3.2.2)."""


def install() -> Path:
    """Build Pebble unless that is done; return the program. Without Go the test is skipped."""
    if shutil.which("go") is None:
        pytest.skip("no Go, which builds the ACME authority")
    FOLDER.mkdir(parents=True, exist_ok=True)
    program = FOLDER / "pebble"
    with (FOLDER / "lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)  # against other workers of this run
        if not program.exists():
            try:
                subprocess.run(
                    ["go", "install", f"github.com/letsencrypt/pebble/v2/cmd/pebble@{VERSION}"],
                    env={**os.environ, "GOBIN": str(FOLDER)},
                    capture_output=True,
                    timeout=BUILD_TIMEOUT,
                    check=True,
                )
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"Go did not build the ACME authority: {str(error.stderr)[-500:]}")
    return program


class AlternatingDns:
    """DNS over TCP, in which each name has one address: the next one at each question."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.port = free_port()
        self._addresses = itertools.cycle(ipaddress.ip_address(one).packed for one in addresses)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            answer = self._answer(question)
            writer.write(len(answer).to_bytes(2) + answer)
        finally:
            writer.close()

    def _answer(self, question: bytes) -> bytes:
        """Return a message with the address; without one if another type is asked for."""
        end = question.index(b"\0", 12) + 5
        asked, found = question[12:end], b""
        if asked[-4:-2] == _A:
            # Name of the question, type A, class IN, for no time, four bytes.
            found = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04" + next(self._addresses)
        counts = b"\0\x01" + bool(found).to_bytes(2) + b"\0\0\0\0"
        return question[:2] + b"\x84\0" + counts + asked + found


class Pebble(Process):
    """The authority; entering the context waits until it answers.

    Args:
        certificate, key: files of its own certificate, for localhost.
        http_port: port at which it asks for the answers to challenges.
        dns_port: port of a DNS server on this machine.
    """

    def __init__(
        self, folder: Path, *, certificate: Path, key: Path, http_port: int, dns_port: int
    ) -> None:
        self.port, self._management = free_port(), free_port()
        config = folder / "pebble.json"
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(certificate),
            "privateKey": str(key),
            "httpPort": http_port,
            "tlsPort": free_port(),
            "keyAlgorithm": "ecdsa",
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"default": {"description": "", "validityPeriod": 86400}},
        }
        config.write_text(json.dumps({"pebble": settings}))
        super().__init__(
            "pebble",
            [install(), "-config", config, "-dnsserver", f"127.0.0.1:{dns_port}"],
            log=folder / "pebble.log",
            env={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"},
        )

    @property
    def url(self) -> str:
        """URL of the directory."""
        return f"https://localhost:{self.port}/dir"

    async def __aenter__(self) -> Self:
        self.start()
        await wait_port(self.port, process=self)
        return self

    def root(self, authority: Path) -> str:
        """Return the root of the certificates that it issues, PEM.

        Args:
            authority: the root of its own certificate.
        """
        context = ssl.create_default_context(cafile=authority)
        url = f"https://localhost:{self._management}/roots/0"
        with urllib.request.urlopen(url, context=context) as answer:
            return str(answer.read().decode())
