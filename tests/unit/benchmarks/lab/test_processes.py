"""Tests of benchmarks.lab.processes."""

import os
import sys
from pathlib import Path

import pytest

from benchmarks.lab.processes import Processes
from zerotrust.errors import BenchError

pytestmark = pytest.mark.anyio

ECHO = "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)"
DEAF = (
    "import signal, sys\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf',"
    " flush=True)\nsignal.pause()"
)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_talking_and_ending(tmp_path: Path) -> None:
    async with Processes(tmp_path) as processes:
        child = await processes.start("an echo", [sys.executable, "-c", ECHO], talks=True)
        assert await child.ask(b"abc\n") == b"ABC\n"
        child.check()
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    assert not is_running(child.pid)


async def test_one_that_will_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.lab.processes.PATIENCE", 0.2)
    async with Processes(tmp_path) as processes:
        child = await processes.start("deaf", [sys.executable, "-c", DEAF], talks=True)
        assert await child.ask(b"\n") == b"deaf\n"
    assert not is_running(child.pid)


async def test_all_are_ended_when_something_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        async with Processes(tmp_path) as processes:
            child = await processes.start("an echo", [sys.executable, "-c", ECHO], talks=True)
            raise RuntimeError
    assert not is_running(child.pid)


async def test_last_words(tmp_path: Path) -> None:
    code = "import sys; sys.exit('a\\nb\\nthe reason')"
    async with Processes(tmp_path) as processes:
        child = await processes.start("short lived", [sys.executable, "-c", code], talks=True)
        assert await child.ask(b"x\n") == b""
        await child.stop()
        with pytest.raises(
            BenchError, match=r"^short lived has ended with status 1: b / the reason$"
        ):
            child.check()


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    async with Processes(tmp_path) as processes:
        with pytest.raises(
            BenchError, match=r"^/no/such cannot be run: No such file or directory$"
        ):
            await processes.start("nothing", ["/no/such"])
