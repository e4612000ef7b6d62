"""Runs a component in the event loop: uvloop with the transports of aiofastnet."""

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import aiofastnet

from zerotrust.net.uvloop_fix import WatchingLoop

GC_ALLOCATIONS: Final = 50_000

T = TypeVar("T")


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a component until it returns, or until SIGINT or SIGTERM cancels it."""
    avoid_preemption()
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=aiofastnet.loop_factory(WatchingLoop)) as runner:
        runner.run(_until_signal(main))


def run_command(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of a command and return its result, without waiting for look-ups of names
    that it has given up."""
    with asyncio.Runner(loop_factory=WatchingLoop) as runner:
        return runner.run(main)


def avoid_preemption() -> None:
    """Schedule this process and its children (Caddy) as SCHED_BATCH. Linux only.

    Caddy, server and agent wake each other for each request. By default the kernel may preempt a
    process as soon as it wakes another one. On a machine with few CPUs these switches cost a fifth
    of all CPU time. A process of `SCHED_BATCH` preempts no other one when it wakes (sched(7)). On
    an idle CPU it makes no difference.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def raise_descriptor_limit() -> int:
    """Raise the limit of open descriptors to the hard limit, for child processes too; return it.

    The usual limit of 1024 is for programs that use `select`. A WebSocket takes one descriptor on
    each side.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return descriptor_limit()


def descriptor_limit() -> int:
    """Return how many descriptors this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else sys.maxsize


async def _until_signal(main: Coroutine[Any, Any, None]) -> None:
    # Requests leave no reference cycles. With its defaults the collector would run two hundred
    # times a second.
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)
    loop = asyncio.get_running_loop()
    task = loop.create_task(main, name="main")
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
