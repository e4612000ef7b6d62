"""Managed Caddy: a child process of the server, restarted when it ends.

It gets its configuration on standard input, a unix socket for its admin API, and its own
directories, so that it does not conflict with another Caddy on the machine. It runs in its own
session, so Ctrl-C reaches only the server, which drains before it ends Caddy. On Linux the kernel
kills Caddy when the server is killed (PR_SET_PDEATHSIG). On other systems, and for a binary with
file capabilities, Caddy survives. Then the next start reports a port in use.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import random
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from zerotrust.caddy import executable, log_lines
from zerotrust.caddy.admin import AdminApi, socket_path
from zerotrust.caddy.ports import check_free, endpoints
from zerotrust.caddy.render import admin_address, render
from zerotrust.config import folders
from zerotrust.errors import CaddyError
from zerotrust.model.server import ServerConfig
from zerotrust.telemetry import logs

START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 5.0
HEALTHY_AFTER: Final = 60.0
FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 30.0

_POLL_INTERVAL: Final = 0.02
_LINE_BYTES: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1
_HTTP2_WEBSOCKETS: Final = "http2xconnect=1"  # RFC 8441, which Go does not offer by default

_log: Final = logs.logger("caddy")


class CaddyProcess:
    """One managed Caddy; an async context manager. It serves on entry, and has ended on exit."""

    def __init__(self, config: ServerConfig, secret: str | None = None) -> None:
        self._config, self._secret = config, secret
        self._document = render(config, secret)
        self._directory = Path(config.caddy.config_dir)
        self._address = admin_address(config.caddy)
        self._admin = AdminApi(self._address)
        self._ready = asyncio.Event()
        self._changes = asyncio.Lock()
        self._tasks = asyncio.TaskGroup()
        self._last_lines: deque[str] = deque(maxlen=50)
        self._binary: executable.Binary
        self._child: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id; None while Caddy is being restarted."""
        return self._child.pid if self._child and self._child.returncode is None else None

    async def __aenter__(self) -> Self:
        self._binary = await executable.find(self._config.caddy.binary)
        if self._binary.note:
            _log.warning(self._binary.note)
        await self._tasks.__aenter__()
        try:
            await self._start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self._watch = self._tasks.create_task(self._supervise(), name="caddy supervisor")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ready.clear()
        if hasattr(self, "_watch"):
            self._watch.cancel()
            await asyncio.wait([self._watch])
        try:
            await self._end()
        finally:
            # The group would wrap the body's exception, so it does not get it.
            await self._tasks.__aexit__(None, None, None)
            await self._admin.__aexit__(None, None, None)

    async def apply(self, config: ServerConfig) -> None:
        """Run another configuration; one without a difference is not sent.

        Raises:
            CaddyError: refused (the old one keeps running), a new port is busy, or Caddy does not
                run.
            ConfigError: it asks for something that Caddy cannot do.
        """
        async with self._changes:
            document = render(config, self._secret)
            if document == self._document:
                return
            self._check_changeable(config)
            await self._wait_running()
            known = set(endpoints(self._config.caddy))
            check_free(wanted for wanted in endpoints(config.caddy) if wanted not in known)
            await self._admin.load(document)
            self._config, self._document = config, document

    def _check_changeable(self, config: ServerConfig) -> None:
        old, new = self._config.caddy, config.caddy
        fixed = [
            key
            for key in ("mode", "binary", "config_dir")
            if getattr(old, key) != getattr(new, key)
        ]
        if fixed:
            raise CaddyError(f"caddy.{fixed[0]} needs a restart of the server")

    async def _wait_running(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._ready.wait()
        except TimeoutError:
            raise CaddyError("Caddy does not run: its last start failed; see the log") from None

    async def _start(self) -> None:
        await self._claim_socket()
        check_free(endpoints(self._config.caddy))
        child = await self._spawn("run")
        self._child = child
        reader = self._tasks.create_task(self._read_log(child), name="caddy log")
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._send_config(child)
                while not await self._admin.ready():
                    if child.returncode is not None:
                        await reader
                        raise CaddyError(
                            f"Caddy did not start: {self._why() or await self._ask_why()}"
                        )
                    await asyncio.sleep(_POLL_INTERVAL)
        except TimeoutError:
            await self._end()
            raise CaddyError(
                f"Caddy was not ready within {START_TIMEOUT:.0f} s: {self._why() or 'see the log'}"
            ) from None
        self._ready.set()
        _log.info("caddy started", pid=child.pid, binary=str(self._binary.path))

    async def _claim_socket(self) -> None:
        """Remove a socket at which no Caddy answers; if one answers, it is another server's."""
        make_directory(self._directory)
        socket = Path(socket_path(self._address) or "")
        if await self._admin.ready():
            raise CaddyError(
                f"another server already runs a Caddy with caddy.config_dir {self._directory}; "
                "stop it, or choose another directory"
            )
        await asyncio.to_thread(socket.unlink, missing_ok=True)

    async def _spawn(self, command: str) -> asyncio.subprocess.Process:
        self._last_lines.clear()
        try:
            return await asyncio.create_subprocess_exec(
                self._binary.path,
                command,
                "--config",
                "-",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=environment(os.environ, self._directory, self._address),
                limit=_LINE_BYTES,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        except OSError as error:
            raise CaddyError(f"{self._binary.path} cannot be run: {error.strerror}") from error

    async def _send_config(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdin is not None
        with contextlib.suppress(
            ConnectionError
        ):  # it ended before it read its input; its log has the reason
            child.stdin.write(json.dumps(self._document).encode())
            await child.stdin.drain()
            child.stdin.close()
            await child.stdin.wait_closed()

    async def _read_log(self, child: asyncio.subprocess.Process) -> None:
        assert child.stderr is not None
        while True:
            try:
                raw = await child.stderr.readline()
            except ValueError:
                continue  # the line is longer than the limit, and was discarded
            if not raw:
                return
            line = raw.decode(errors="replace").strip()
            if line:
                self._last_lines.append(line)
                log_lines.merge(line)

    def _why(self) -> str | None:
        reasons = [text for line in self._last_lines if (text := log_lines.reason(line))]
        return reasons[-1] if reasons else None

    async def _ask_why(self) -> str:
        """Return the reason of a failed start from `caddy validate`; `run` prints none if its
        logs fail."""
        child = await self._spawn("validate")
        _, output = await child.communicate(json.dumps(self._document).encode())
        self._last_lines.extend(output.decode(errors="replace").splitlines())
        return (
            self._why()
            or f"it exited with code {self._child and self._child.returncode}, without a reason"
        )

    async def _supervise(self) -> None:
        delay = FIRST_DELAY
        clock = asyncio.get_running_loop().time
        while True:
            assert self._child is not None
            started_at = clock()
            code = await self._child.wait()
            self._ready.clear()
            _log.error("caddy exited unexpectedly; restarting it", code=code)
            if clock() - started_at >= HEALTHY_AFTER:
                delay = FIRST_DELAY
            while not self._ready.is_set():
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311
                delay = min(delay * 2, LONGEST_DELAY)
                try:
                    await self._start()
                except CaddyError as error:
                    _log.error("cannot start caddy", reason=str(error), retry_in=round(delay, 1))

    async def _end(self) -> None:
        child = self._child
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await child.wait()
        except TimeoutError:
            _log.warning("caddy did not exit in time; killing it", pid=child.pid)
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()


def make_directory(path: Path) -> None:
    """Create the directory of the managed Caddy, mode 0700.

    Raises:
        CaddyError: it cannot be created, or other users can replace its files.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        refusal = folders.refusal(path)
    except OSError as error:
        raise CaddyError(
            f"caddy.config_dir {path} cannot be created ({error.strerror}); choose another"
            " directory"
        ) from error
    if refusal is not None:
        raise CaddyError(f"caddy.config_dir: {refusal}")


def environment(ours: Mapping[str, str], directory: Path, admin: str) -> dict[str, str]:
    """Return the environment for Caddy: ours, with its own directories and WebSockets over
    HTTP/2."""
    home = str(directory.absolute())
    debug = ours.get("GODEBUG", "")
    return {
        **ours,
        "GODEBUG": f"{debug},{_HTTP2_WEBSOCKETS}" if debug else _HTTP2_WEBSOCKETS,
        "CADDY_ADMIN": admin,
        "HOME": home,
        "XDG_DATA_HOME": f"{home}/data",
        "XDG_CONFIG_HOME": f"{home}/config",
    }


def die_with_parent() -> Callable[[], None] | None:
    """Return a function to call between fork and exec, which makes the child die with this
    process."""
    if sys.platform != "linux":
        return None
    prctl: Any = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)

    return before_exec
