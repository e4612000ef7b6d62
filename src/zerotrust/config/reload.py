"""Reload of a configuration after a change of the file or a signal.

    the file changes ─┐
    SIGHUP ───────────┴─> read, check ─> compare ─> apply ─> one line in the log
                               └── invalid: nothing changes, one line says why

Only one reload runs at a time. It reads the files in a thread. A request during a reload causes
another one.
"""

import asyncio
import hashlib
import signal
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Generic, TypeVar

from zerotrust.config import diff, file_watcher
from zerotrust.config.diff import Changes
from zerotrust.config.load import Loaded
from zerotrust.errors import ZeroTrustError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.logging import HotReload
from zerotrust.model.server import ServerConfig
from zerotrust.net.tasks import Tasks
from zerotrust.telemetry import logs

_log = logs.logger("config")

Config = TypeVar("Config", AgentConfig, ServerConfig)
Read = Callable[[Config], Loaded[Config]]
"""Function that reads the configuration, in a thread. Its argument is the last good one."""
Apply = Callable[[Config, Changes], Awaitable[Sequence[str]]]
"""Function that applies a new configuration completely or not at all.

It returns the changes that take effect later, and their conditions. It raises ZeroTrustError if the
configuration cannot be applied."""


class Reloader(Generic[Config]):
    """Owner of the last good configuration.

    `run` watches and reloads until it is cancelled; signal handlers call `ask`.

    Args:
        done: called after each reload: with True if the configuration is in force now, with False
            if the last good one stays.
    """

    def __init__(
        self,
        loaded: Loaded[Config],
        *,
        read: Read[Config],
        apply: Apply[Config],
        tasks: Tasks,
        done: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.config: Config = loaded.config
        self._tasks = tasks
        self._sources: tuple[Path, ...] = loaded.files
        self._read: Read[Config] = read
        self._apply: Apply[Config] = apply
        self._done = done
        self._asked = asyncio.Event()
        self._digests = _digests(certificates(loaded.config))

    def ask(self) -> None:
        """Request a reload."""
        self._asked.set()

    async def run(self) -> None:
        """Reload after each request and each change of a file, until cancelled."""
        while True:
            watched, signals = self._watched(), self._signals()
            self._listen(signals)
            watching = self._tasks.spawn(self._watch(*watched), "watch files")
            try:
                while (self._watched(), self._signals()) == (watched, signals):
                    await self._asked.wait()
                    self._asked.clear()
                    self._done(await self.reload() is not None)
            finally:
                watching.cancel()
            self._ignore(signals - self._signals())

    async def reload(self) -> Changes | None:
        """Read the file and apply the changes. Return None if the file is invalid."""
        last = self.config
        try:
            loaded = await asyncio.to_thread(self._read, last)
            digests = await asyncio.to_thread(_digests, certificates(loaded.config))
        except ZeroTrustError as error:
            _refused(error)
            return None
        renewed = [
            name for name, digest in digests.items() if self._digests.get(name, digest) != digest
        ]
        changes = diff.compare(last, loaded.config, files=renewed)
        try:
            waiting = await self._apply(loaded.config, changes) if changes else ()
        except ZeroTrustError as error:
            _refused(error)
            return None
        self.config, self._digests, self._sources = loaded.config, digests, loaded.files
        self._say(loaded, changes, waiting)
        return changes

    def _say(self, loaded: Loaded[Config], changes: Changes, waiting: Sequence[str]) -> None:
        refusal = _one_line(map(str, loaded.refused))
        if refusal:
            _log.error("services with errors keep their last good version", reason=refusal)
        if changes:
            _log.info("configuration reloaded", changes=str(changes), waiting=list(waiting) or None)
        elif not refusal:
            _log.info("configuration reloaded", changes="nothing")

    def _watched(self) -> tuple[tuple[Path, ...], float]:
        """Return the files to watch, and the delay."""
        settings: HotReload = self.config.hot_reload
        files: tuple[Path, ...] = (
            self._sources if settings.enabled and settings.watch_config else ()
        )
        if settings.enabled and settings.watch_certs:
            files = (*files, *certificates(self.config))
        return files, settings.debounce_delay

    def _signals(self) -> frozenset[str]:
        return frozenset({"SIGHUP", self.config.hot_reload.reload_signal} - {""})

    def _listen(self, signals: frozenset[str]) -> None:
        for name in signals:
            asyncio.get_running_loop().add_signal_handler(signal.Signals[name], self.ask)

    def _ignore(self, signals: frozenset[str]) -> None:
        # The signal's default action would end the process if someone still sends it.
        for name in signals:
            asyncio.get_running_loop().remove_signal_handler(signal.Signals[name])
            signal.signal(signal.Signals[name], signal.SIG_IGN)

    async def _watch(self, files: tuple[Path, ...], delay: float) -> None:
        if not files:
            return
        try:
            async with aclosing(file_watcher.changes(files, delay=delay)) as changes:
                async for _ in changes:
                    self.ask()
        except OSError as error:
            _log.warning(
                "cannot watch files; send SIGHUP after a change",
                reason=error.strerror or str(error),
            )


def certificates(config: AgentConfig | ServerConfig) -> tuple[Path, ...]:
    """Return the certificate and key files in a configuration."""
    if isinstance(config, AgentConfig):
        own = (config.server.cert, config.server.key, config.server.ca_cert)
        names = (*own, *(name for service in config.services for name in service.tls_files))
    else:
        issuer = (config.authority.cert_file, config.authority.key_file)
        names = (
            config.server.cert_file,
            config.server.key_file,
            config.server.ca_file,
            *filter(None, issuer),
        )
    return tuple(Path(name) for name in dict.fromkeys(names))


def _digests(files: Iterable[Path]) -> dict[str, bytes]:
    """Return the hash of each file; empty for a file that cannot be read."""
    found = {}
    for file in files:
        try:
            found[str(file)] = hashlib.sha256(file.read_bytes()).digest()
        except OSError:
            found[str(file)] = b""
    return found


def _refused(error: ZeroTrustError) -> None:
    _log.error(
        "configuration not reloaded, the last good one stays",
        reason=_one_line(str(error).splitlines()),
    )


def _one_line(lines: Iterable[str]) -> str:
    return " | ".join(lines)
