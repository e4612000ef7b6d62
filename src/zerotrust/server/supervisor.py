"""Supervisor: the parent of a server's workers (`server.workers`).

It listens for agents, commands, metrics and Caddy's questions, and hands each accepted connection
to a worker. It runs Caddy, which balances over the workers' own sockets. It reads no request, holds
no session and opens no database, so it has little to fail with.

A worker that ends is started again. Its sessions and requests end; those of the others do not.

All workers run with one configuration. The parent accepts it when it and the first worker that
serves have applied it. Then the other workers apply it: one that cannot is drained and started
again.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Final

from zerotrust.caddy.edge import Edge
from zerotrust.caddy.process import die_with_parent
from zerotrust.config.diff import Changes
from zerotrust.config.load import Loaded
from zerotrust.config.reload import Read, Reloader
from zerotrust.errors import SetupError
from zerotrust.model.server import ServerConfig
from zerotrust.net.descriptor_passing import (
    Connection,
    HandingListening,
    WorkerChannel,
    WorkerListener,
)
from zerotrust.net.listen import Listening
from zerotrust.net.tasks import Tasks
from zerotrust.server.identity.accepted_config import AcceptedConfig, ConfigText
from zerotrust.server.identity.worker_slot import (
    ADMIN,
    AGENTS,
    METRICS,
    PERMISSION,
    REFUSED,
    VARIABLE,
    WorkerSlot,
)
from zerotrust.telemetry import logs

_log = logs.logger("supervisor")

FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 30.0
"""Seconds before a worker that has ended is started again. They double with each start that lasts
less than HEALTHY_AFTER seconds."""
HEALTHY_AFTER: Final = 60.0
START_TIMEOUT: Final = 600.0
"""Seconds that a worker has until it serves requests: it may migrate a database first."""
RELOAD_TIMEOUT: Final = 60.0
"""Seconds that a worker has to apply a configuration."""
FAREWELL: Final = 15.0
"""Seconds beyond `hot_reload.drain_timeout` after which a worker that was told to end is killed."""

_AGENTS: Final = "server.listen_addr"
_LISTENERS: Final = {
    "admin.socket": ADMIN,
    "caddy.permission_addr": PERMISSION,
    "metrics.listen_addr": METRICS,
}


async def supervise(
    loaded: Loaded[ServerConfig], read: Read[ServerConfig], arguments: Sequence[str]
) -> None:
    """Run a server of several workers until it is cancelled: then they drain.

    Args:
        read: reads the configuration again when it changes or on SIGHUP.
        arguments: of the command `0trust` that runs a worker.

    Raises:
        SetupError: an address or Caddy can't be used, or a worker does not start.
    """
    async with AsyncExitStack() as stack:
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        supervisor = Supervisor(loaded, tasks, arguments, read=read)
        stack.push_async_callback(supervisor.close)
        await supervisor.start()
        reloader = Reloader(loaded, read=supervisor.read, apply=supervisor.apply, tasks=tasks)
        reloading = tasks.spawn(reloader.run(), "reload")
        if loaded.config.hot_reload.reload_signal != "SIGUSR2":
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, supervisor.ask_restart)
        _log.info("server ready", workers=len(supervisor.workers))
        try:
            await asyncio.Event().wait()
        finally:
            reloading.cancel()
            await supervisor.drain()


class WorkerProcess:
    """One worker: its process, which is started again when it ends, and the channel to it.

    Args:
        slot: its place among the workers.
        arguments: of the command `0trust` that runs it.
        accepted: the configuration that it reads.

    Attributes:
        serving: it has said that it serves requests, and was not told to end.
    """

    def __init__(
        self, slot: WorkerSlot, arguments: Sequence[str], accepted: AcceptedConfig
    ) -> None:
        self.slot = slot
        self.serving = False
        self._arguments = arguments
        self._accepted = accepted
        self._process: asyncio.subprocess.Process | None = None
        self._told_to_end: asyncio.subprocess.Process | None = None
        self._channel: WorkerChannel | None = None
        self._is_stopping = self._is_restarting = False
        self._started = asyncio.Event()

    def hand(self, listener: bytes, connection: Connection) -> bool:
        """Hand a connection over; return False if the worker cannot take it."""
        return self._channel is not None and self._channel.hand(listener, connection)

    async def start(self) -> None:
        """Start the process; return when it serves requests.

        Connections that are handed over before wait for it.

        Raises:
            SetupError: it has ended, or takes too long.
        """
        channel = self._channel = WorkerChannel()
        inherited = (channel.descriptor, self._accepted.descriptor)
        slot = WorkerSlot(self.slot.index, self.slot.count, *inherited)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # else modules of the current folder would come first
                "-m",
                "zerotrust",
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, VARIABLE: str(slot)},
                pass_fds=inherited,
                # Ctrl-C reaches only the parent, which tells the workers to drain.
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        except OSError as error:
            channel.close()
            raise SetupError(f"worker {self.slot.index} cannot be started: {error}") from error
        channel.started()
        if not await self._runs_accepted(START_TIMEOUT):
            channel.close()
            await self._end(0.0)
            raise SetupError(f"worker {self.slot.index} did not start; its log says why")
        self.serving = not self._is_stopping
        self._started.set()
        _log.info("worker started", worker=self.slot.index, pid=self._process.pid)

    async def keep(self) -> None:
        """Start the process again whenever it ends, until `stop`."""
        clock, delay = asyncio.get_running_loop().time, FIRST_DELAY
        while not self._is_stopping:
            assert self._process is not None
            started_at = clock()
            code = await self._process.wait()
            self.serving = False
            assert self._channel is not None
            self._channel.close()
            if clock() - started_at >= HEALTHY_AFTER:
                delay = FIRST_DELAY
            if not (self._is_stopping or self._is_restarting):
                _log.error(
                    "worker ended unexpectedly; starting it again",
                    worker=self.slot.index,
                    code=code,
                )
            while not (self.serving or self._is_stopping):
                if not self._is_restarting:
                    await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311
                    delay = min(delay * 2, LONGEST_DELAY)
                self._is_restarting = False
                try:
                    await self.start()
                except SetupError as error:
                    _log.error("cannot start a worker", reason=str(error), retry_in=round(delay, 1))

    async def reload(self) -> bool:
        """Let the worker apply the accepted configuration; return True when it has done so.

        Call it for a worker that serves: one that starts reads the configuration anyway.
        """
        self._ask_to_reload()
        return await self._runs_accepted(RELOAD_TIMEOUT)

    async def restart(self, seconds: float) -> bool:
        """Let the process drain, and start it again; return True when it serves requests.

        Args:
            seconds: time to drain.
        """
        self.serving, self._is_restarting = False, True
        self._started.clear()
        await self._end(seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT):
                await self._started.wait()
        return self.serving

    async def stop(self, seconds: float, *, at_once: bool = False) -> None:
        """Let the process drain and end; kill it after `seconds`.

        Args:
            at_once: a process that drains already is to end now.
        """
        self.serving, self._is_stopping = False, True
        await self._end(seconds, at_once=at_once)
        if self._channel is not None:
            self._channel.close()

    def _ask_to_reload(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGHUP)

    async def _runs_accepted(self, seconds: float) -> bool:
        """Return True when the worker says that it runs with the accepted configuration."""
        channel = self._channel
        assert channel is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while message := await channel.receive():
                    if message[1:] == self._accepted.mark:
                        return message[:1] != REFUSED
                    self._ask_to_reload()  # it has read an earlier one
        return False

    async def _end(self, seconds: float, *, at_once: bool = False) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        # The first signal lets the process drain; a second one would break off its requests.
        if at_once or process is not self._told_to_end:
            self._told_to_end = process
            process.terminate()
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            _log.warning("worker did not end in time; killing it", worker=self.slot.index)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Supervisor:
    """Owns the workers, the listeners that they share, and the edge.

    Args:
        arguments: of the command `0trust` that runs a worker.
        read: reads the configuration.

    Attributes:
        workers: the workers, by number.
        accepted: the configuration that the workers read.
    """

    def __init__(
        self,
        loaded: Loaded[ServerConfig],
        tasks: Tasks,
        arguments: Sequence[str],
        *,
        read: Read[ServerConfig],
    ) -> None:
        config = loaded.config
        count = config.server.worker_count
        self.accepted = AcceptedConfig.create()
        self._text = self._offered = ConfigText(loaded.contents, config.state)
        self.accepted.write(self._text)
        self.workers = [
            WorkerProcess(WorkerSlot(one, count), arguments, self.accepted) for one in range(count)
        ]
        self._config, self._tasks, self._read = config, tasks, read
        self._agents = WorkerListener(self._hand_agent, refused=_log_refused, tasks=tasks)
        self._edge = Edge(config)
        self._listening: dict[str, Listening] = {}
        self._restarting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the workers and Caddy.

        Raises:
            SetupError: an address or Caddy can't be used, or a worker does not start.
        """
        addresses = _addresses(self._config)
        # Agents may return at once: a worker waits for those that it had before a restart.
        self._listening[_AGENTS] = self._listen(_AGENTS, addresses.pop(_AGENTS), None)
        first, *others = self.workers
        # Alone: it makes or migrates the database, and makes keys that all use.
        await first.start()
        await asyncio.gather(*(worker.start() for worker in others))
        for worker in self.workers:
            self._tasks.supervise(worker.keep, f"keep worker {worker.slot.index}")
        for key, address in addresses.items():
            self._listening[key] = self._listen(key, address, None)
        await self._edge.__aenter__()

    def read(self, last: ServerConfig) -> Loaded[ServerConfig]:
        """Read the configuration that `apply` is to apply, if it differs from the last one."""
        loaded = self._read(last)
        self._offered = replace(self._text, contents=loaded.contents)
        return loaded

    async def apply(self, config: ServerConfig, changes: Changes) -> list[str]:
        """Apply another configuration here, then let the workers apply it.

        Returns:
            The settings that need a restart.

        Raises:
            SetupError: an address, the log or Caddy can't be used, or the first worker cannot
                apply it; nothing has changed.
            ConfigError: Caddy cannot do what the configuration asks for; nothing has changed.
        """
        config, waiting = self._edge.without_restart(config)
        if config.server.worker_count != len(self.workers):
            waiting = [*waiting, "server.workers"]
        if config.state != self._config.state:
            waiting = [*waiting, "state"]
        fixed = {"workers": len(self.workers)}
        config = config.model_copy(
            update={
                "server": config.server.model_copy(update=fixed),
                "state": self._config.state,
            }
        )
        before, after = _addresses(self._config), _addresses(config)
        async with AsyncExitStack() as undo:
            found: dict[str, Listening] = {}
            for key, address in after.items():
                if address != before.get(key):
                    found[key] = self._listen(key, address, self._listening.get(key))
                    undo.push_async_callback(found[key].close)
            if "logging" in changes.sections:
                logs.configure(config.logging)
                undo.callback(logs.configure, self._config.logging)
            await self._edge.apply(config)
            undo.push_async_callback(self._edge.apply, self._config)
            decided = await self._offer_to_first()
            undo.pop_all()
        for key in before:
            if key in found or key not in after:
                await self._listening.pop(key).close()
        self._listening |= found
        self._config = config
        others = [one for one in self.workers if one.serving and one is not decided]
        await asyncio.gather(*(self._reload(worker) for worker in others))
        return [f"{key}: needs a restart of the server" for key in waiting]

    def ask_restart(self) -> None:
        """Restart the workers one after the other, unless that happens already."""
        if self._restarting is None or self._restarting.done():
            self._restarting = self._tasks.spawn(self._restart(), "restart workers")

    async def drain(self) -> None:
        """Accept no more agents, and let all workers drain and end."""
        if self._restarting is not None:
            self._restarting.cancel()
        await self._listening.pop(_AGENTS).close()
        await asyncio.gather(*(worker.stop(self._drain_timeout) for worker in self.workers))

    async def close(self) -> None:
        """End everything."""
        await self._edge.__aexit__(None, None, None)
        await asyncio.gather(*(worker.stop(FAREWELL, at_once=True) for worker in self.workers))
        for listening in self._listening.values():
            await listening.close()
        self.accepted.close()

    @property
    def _drain_timeout(self) -> float:
        return self._config.hot_reload.drains_for + FAREWELL

    async def _offer_to_first(self) -> WorkerProcess | None:
        """Accept the configuration that was read, unless the first worker cannot apply it.

        Returns:
            The worker that has applied it; None if no worker serves.

        Raises:
            SetupError: it cannot; all workers keep the former one.
        """
        self.accepted.write(self._offered)
        first = next((worker for worker in self.workers if worker.serving), None)
        if first is None or await first.reload():
            self._text = self._offered
            return first
        self.accepted.write(self._text)
        await self._reload(first)
        raise SetupError(f"worker {first.slot.index} cannot apply it; its log says why")

    async def _reload(self, worker: WorkerProcess) -> None:
        """Let a worker apply the accepted configuration; restart it in the background if it cannot.

        One that has ended is started again anyway.
        """
        if not await worker.reload() and worker.serving:
            _log.error(
                "a worker cannot apply the configuration of the others; restarting it",
                worker=worker.slot.index,
            )
            self._tasks.spawn(self._replace(worker), f"restart worker {worker.slot.index}")

    async def _replace(self, worker: WorkerProcess) -> None:
        await worker.restart(self._drain_timeout)

    async def _restart(self) -> None:
        _log.info("restarting the workers, one after the other")
        for worker in self.workers:
            if not await worker.restart(self._drain_timeout):
                _log.error("workers not restarted: one does not start", worker=worker.slot.index)
                return
        _log.info("workers restarted")

    def _listen(self, key: str, address: str, beside: Listening | None) -> Listening:
        """Raises SetupError."""
        if key == _AGENTS:
            return self._agents.listen(address, key=key, beside=beside)
        hand = partial(self._hand, _LISTENERS[key])
        return HandingListening.bind(address, hand, key=key, beside=beside)

    def _hand_agent(self, worker: int, connection: Connection) -> None:
        with connection:
            if worker < len(self.workers):
                self.workers[worker].hand(AGENTS, connection)

    def _hand(self, listener: bytes, connection: Connection) -> None:
        """Hand a connection to the first worker that serves, or else to one that starts or ends."""
        with connection:
            for worker in sorted(self.workers, key=lambda one: not one.serving):
                if worker.hand(listener, connection):
                    return


def _addresses(config: ServerConfig) -> dict[str, str]:
    """Return the addresses to listen at, by configuration key."""
    found = {_AGENTS: config.server.listen_addr, "admin.socket": f"unix:{config.admin_socket}"}
    if config.caddy.mode != "none":
        found["caddy.permission_addr"] = config.caddy.permission_addr
    if config.metrics.listen_addr is not None:
        found["metrics.listen_addr"] = config.metrics.listen_addr
    return found


def _log_refused(peer: str, reason: str) -> None:
    _log.warning("agent refused", peer=peer, reason=reason)
