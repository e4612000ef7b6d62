"""Tests of zerotrust.net.loop."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from zerotrust.net.loop import run_command

PROGRAM = """
import os, subprocess, sys
from zerotrust.net.loop import run

async def main():
    print(os.sched_getscheduler(0))
    subprocess.run([sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"], check=True)

sys.stdout.reconfigure(line_buffering=True)
run(main())
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="a scheduling policy of Linux")
def test_a_component_and_its_children_run_as_sched_batch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=15, check=True
    )
    assert done.stdout.split() == [str(os.SCHED_BATCH)] * 2


def test_the_descriptor_limit_is_raised_for_children_too() -> None:
    program = PROGRAM.replace(
        "os.sched_getscheduler(0)", "resource.getrlimit(resource.RLIMIT_NOFILE)[0]"
    )
    program = program.replace("import os", "import resource")
    begin = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 400))\n"
    command = [sys.executable, "-c", begin + program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=True)
    assert done.stdout.split() == ["400"] * 2


def test_a_command_does_not_wait_for_a_look_up_that_it_has_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, ended = threading.Event(), threading.Event()

    def look_up(host: str, port: int, *others: Any) -> list[Any]:
        if others[-1] & socket.AI_NUMERICHOST:
            raise socket.gaierror
        answers.wait(30)
        ended.set()
        raise socket.gaierror

    async def command() -> str:
        try:
            async with asyncio.timeout(0.1):
                await asyncio.get_running_loop().getaddrinfo("hangs.example", 443)
        except TimeoutError:
            return "given up"
        return "answered"

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        assert run_command(command()) == "given up"
        assert not ended.is_set()
    finally:
        answers.set()
