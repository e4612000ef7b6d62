"""Verification pool: runs password checks in threads, fairly by agent and client network."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from zerotrust.limits.client_network import network_of
from zerotrust.middleware.interface import NeedsVerification, Verification, Verifier
from zerotrust.net.tasks import Tasks
from zerotrust.server.proxy.fair_queue import Entry, FairQueue
from zerotrust.telemetry import logs

_log = logs.logger("policy")

THREADS: Final = min(4, os.cpu_count() or 1)
"""A hash takes up to 128 MiB and a whole processor, so few run at a time and the event loop keeps
its turns."""
MAX_WAITING: Final = 1024
"""Verifications in the queue. Each holds the requests that wait for it, with one read of their
bodies."""
MAX_WAITING_OF_AGENT: Final = 64
"""At most half a minute of work for one thread, where each takes half a second."""
MAX_WAITING_OF_NETWORK: Final = 16
"""Logins of one client network for one agent, such as an office behind one address after a server
restart."""

Key = tuple[Verifier, bytes]
Callback = Callable[[bool | None], None]
"""Takes the result of a verification; None where it was dropped because the queue is full."""


class _Job:
    """A verification, and the callbacks that wait for it, by client network in order of arrival."""

    __slots__ = ("agent", "started", "verification", "waiting")

    def __init__(self, agent: str, verification: Verification) -> None:
        self.agent = agent
        self.verification = verification
        self.started = False
        self.waiting: dict[bytes, dict[Callback, None]] = {}


class VerificationPool:
    """Runs each verification (middleware.interface) once for all requests that wait for it.

    A verification that clients of several networks wait for has a place in the queue for each of
    them, and runs as soon as one of these has its turn. One that no request waits for any more does
    not run.

    Attributes:
        running: number of verifications that run.
        queue: the verifications that wait for a thread.
        jobs: the verifications that run or wait.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        self._threads = ThreadPoolExecutor(THREADS, "verify")
        self.running = 0
        self.jobs: dict[Key, _Job] = {}
        self.queue: FairQueue[Key] = FairQueue(
            capacity=MAX_WAITING,
            agent_capacity=MAX_WAITING_OF_AGENT,
            network_capacity=MAX_WAITING_OF_NETWORK,
        )

    def ask(
        self, pending: NeedsVerification, callback: Callback, *, agent: str, client: bytes
    ) -> Callable[[], None]:
        """Run a verification and call back once, in a later turn; return a function that withdraws.

        Args:
            agent: the agent whose service asks.
            client: the address of the client.
        """
        key, network = (pending.verifier, pending.verification.digest), network_of(client)
        job = self.jobs.get(key)
        if job is None:
            job = self.jobs[key] = _Job(agent, pending.verification)
        job.waiting.setdefault(network, {})[callback] = None
        if not job.started:
            dropped = self.queue.push(agent, network, key)
            if dropped is not None:
                self._drop(dropped)
            self._start()
        return partial(self._withdraw, key, job, network, callback)

    def _start(self) -> None:
        while self.running < THREADS and (entry := self.queue.pop()) is not None:
            key = entry.item
            job = self.jobs[key]
            for network in job.waiting:
                self.queue.remove(Entry(job.agent, network, key))
            job.started = True
            self.running += 1
            self._tasks.spawn(self._run(key, job), "verify")

    async def _run(self, key: Key, job: _Job) -> None:
        try:
            result = await self._loop.run_in_executor(self._threads, job.verification.run)
        except Exception:  # noqa: BLE001 - the requests that wait must be answered after any error
            _log.exception("password verification raised an error; request denied")
            result = False
        del self.jobs[key]
        for waiting in job.waiting.values():
            self._call_back(waiting, result)
        self.running -= 1
        self._start()

    def _drop(self, entry: Entry[Key]) -> None:
        """Answer the requests of a client network that lost its place; others keep theirs."""
        job = self.jobs[entry.item]
        self._call_back(job.waiting.pop(entry.network), None)
        self._forget_unless_wanted(entry.item, job)

    def _withdraw(self, key: Key, job: _Job, network: bytes, callback: Callback) -> None:
        waiting = job.waiting.get(network)
        if job.started or waiting is None or callback not in waiting:
            return
        del waiting[callback]
        if not waiting:
            del job.waiting[network]
            self.queue.remove(Entry(job.agent, network, key))
            self._forget_unless_wanted(key, job)

    def _forget_unless_wanted(self, key: Key, job: _Job) -> None:
        if not job.waiting:
            del self.jobs[key]

    def _call_back(self, waiting: dict[Callback, None], result: bool | None) -> None:
        for callback in waiting:
            self._loop.call_soon(callback, result)
