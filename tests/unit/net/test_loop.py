"""Tests of zerotrust.net.loop."""

import os
import subprocess
import sys

import pytest

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
