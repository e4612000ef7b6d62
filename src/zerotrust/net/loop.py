"""The event loop: uvloop with aiofastnet's transports, chosen in this one place."""

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

import aiofastnet

from zerotrust.net.uvloop_fix import WatchingLoop

GC_ALLOCATIONS: Final = 50_000


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a component until it returns, or until SIGINT or SIGTERM cancels it."""
    give_way()
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=aiofastnet.loop_factory(WatchingLoop)) as runner:
        runner.run(_until_signal(main))


def give_way() -> None:
    """Let who is running finish, also when we are woken: for this process and all that it starts (Caddy). Linux only.

    Caddy, server and agent wake one another for each request. A process that is pushed off its CPU by the one that it
    has just woken has written one answer where it could have written three: on a machine with few CPUs the pushing
    costs a fifth of all CPU time. `SCHED_BATCH` is for just that (sched(7)); on an idle CPU it changes nothing.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def raise_descriptor_limit() -> int:
    """Let us, and the processes that we start, open as many descriptors as we may; how many that is.

    The usual 1024 is for programs that know no more than `select`; each WebSocket takes one at each end.
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
    # Requests leave no cycles behind; the collector's default pace would look for them two hundred times a second.
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)
    loop = asyncio.get_running_loop()
    task = loop.create_task(main, name="main")
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
