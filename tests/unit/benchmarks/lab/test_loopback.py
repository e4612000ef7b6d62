"""Tests of benchmarks.lab.loopback."""

import socket
import sys
from pathlib import Path

import pytest

from benchmarks.lab.loopback import ADDRESS, claim, free_port, wait_port
from benchmarks.lab.processes import Processes
from zerotrust.errors import BenchError


def test_each_port_is_given_once() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert claim(ports[0]) == ports[0]


def test_a_busy_port() -> None:
    with (
        socket.create_server((ADDRESS, 0)) as listening,
        pytest.raises(BenchError, match="is busy or not allowed"),
    ):
        claim(listening.getsockname()[1])


@pytest.mark.anyio
async def test_nobody_will_listen(tmp_path: Path) -> None:
    async with Processes(tmp_path) as processes:
        child = await processes.start(
            "server", [sys.executable, "-c", "raise SystemExit('no luck')"]
        )
        with pytest.raises(BenchError, match="server has ended with status 1: no luck"):
            await wait_port(free_port(), child)
