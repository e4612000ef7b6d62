"""Tests of `python -m demo`: its printed commands work, it cleans up, its errors are one line.

tests/browser/test_demo.py stops it by SIGTERM.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.demo_process import Demo
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("demo"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: Caddy's socket is deep below it."""
    with tempfile.TemporaryDirectory(prefix="t-") as name:
        yield Path(name)


@pytest.fixture
async def demo(folder: Path) -> AsyncIterator[Demo]:
    async with Demo(folder) as demo:
        yield demo


async def shell(command: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def printed_commands(text: str) -> list[str]:
    """The curl commands, with their continuation lines."""
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip().startswith("curl ")]


async def test_printed_commands_work_as_printed_and_ctrl_c_leaves_nothing(demo: Demo) -> None:
    page, upgrade = printed_commands(demo.text())
    shown = await shell(page)
    assert "<title>0Trust demo" in shown.stdout, shown.stderr
    assert "101 Switching Protocols" in (await shell(upgrade)).stderr
    assert len(demo.family()) >= 4, "backend, server, Caddy, agent"
    demo.send_signal(signal.SIGINT)
    assert await demo.wait_exit() == 0
    assert "Traceback" not in demo.text()
    await demo.check_gone()


async def test_part_that_dies_ends_all_with_a_line(demo: Demo) -> None:
    os.kill(demo.member("server run"), signal.SIGKILL)
    assert await demo.wait_exit() == 1
    assert re.search(r"^demo: the server was ended by SIGKILL", demo.text(), re.MULTILINE), (
        demo.text()
    )
    assert "Traceback" not in demo.text()
    await demo.check_gone()


async def test_stopped_while_it_starts(folder: Path) -> None:
    demo = Demo(folder)
    demo.start()
    await eventually(lambda: list(folder.glob("0trust-demo-*")), "its folder is there")
    demo.folder = next(folder.glob("0trust-demo-*"))
    await eventually(demo.family, "it has started something")
    demo.send_signal(signal.SIGTERM)
    assert await demo.wait_exit() == 0
    await demo.check_gone()


@pytest.mark.parametrize("wish", ["busy", "many", "70000", "-1"])
async def test_port_that_cannot_be_used_is_one_line(folder: Path, wish: str) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1]) if wish == "busy" else wish
        env = {**os.environ, "ZEROTRUST_DEMO_PORT": port, "TMPDIR": str(folder)}
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "demo"],
            env=env,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("demo: ")
    assert port in line
    assert list(folder.iterdir()) == []


async def test_folder_that_is_too_deep_is_one_line(folder: Path) -> None:
    deep = folder / ("x" * 90)
    deep.mkdir()
    env = {**os.environ, "TMPDIR": str(deep)}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "demo"],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "set TMPDIR to a shorter one" in line
    assert list(deep.iterdir()) == []


async def test_folder_that_cannot_be_written_is_one_line() -> None:
    """No writable folder for temporary files: TMPDIR, the system's folders, the working folder."""
    code = (
        "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc']; import"
        " demo.__main__ as d; d.main()"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("demo: cannot make a temporary folder")
