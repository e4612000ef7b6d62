"""How `0trust agent drain` and `0trust agent status` reach the agent: a unix socket beside its configuration.

That of agent.yaml is agent.sock. Only the agent's own user and root can open it (mode 0600). It takes one word:
`status` is answered, in JSON; after `drain` it stays open until the agent has ended, so whoever asked knows when that
is. A process id in a file would say neither whose it is by now, nor reach into a container that shares no more than the
folder. Where two agents run with one file, the newer one has the socket.
"""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, cast

from pydantic import ValidationError

from zerotrust.errors import SetupError
from zerotrust.model.status import AgentStatus
from zerotrust.net.channel import describe
from zerotrust.net.listen import Listening, listen_plain
from zerotrust.telemetry import logs

DRAIN: Final = b"drain\n"
STATUS: Final = b"status\n"
ANSWER_TIMEOUT: Final = 10.0
MAX_CONNECTIONS: Final = 32
"""At the same time: a person or two, and what watches the agent. Of more, the oldest that has not asked yet is closed,
or else the new one."""

_log = logs.logger("agent")


def control_path(config: Path) -> Path:
    """The socket of the agent that runs with this configuration file."""
    return config.absolute().with_suffix(".sock")


async def request_drain(path: Path) -> None:
    """Have the agent end, and wait until it has: `drain_timeout` and a few seconds at most.

    Raises:
        SetupError: no agent listens there, or it may not be asked by this user.
    """
    # It says nothing: the end of the connection is the end of the process.
    await _ask(path, DRAIN)


async def request_status(path: Path) -> AgentStatus:
    """What the agent does now.

    Raises:
        SetupError: no agent listens there, it may not be asked by this user, or it does not answer.
    """
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return AgentStatus.model_validate_json(await _ask(path, STATUS))
    except TimeoutError:
        raise SetupError(f"{path}: the agent has not answered for {ANSWER_TIMEOUT:g} s") from None
    except ValidationError:
        raise SetupError(f"{path}: the agent that runs here is of another version: restart it") from None


async def _ask(path: Path, word: bytes) -> bytes:
    try:
        reader, writer = await asyncio.open_unix_connection(path)
        with closing(writer):
            writer.write(word)
            return await reader.read()
    except (FileNotFoundError, ConnectionRefusedError):
        raise SetupError(f"{path}: no agent with this configuration runs here") from None
    except OSError as error:
        raise SetupError(f"{path}: cannot ask the agent: {describe(error)}") from error


class ControlSocket:
    """Owns the socket.

    Args:
        drain: called at the first request to drain; not again, because a second time would mean "at once".
        status: asked for each request for it.
    """

    def __init__(self, drain: Callable[[], object], status: Callable[[], AgentStatus]) -> None:
        self._drain: Callable[[], object] | None = drain
        self._status = status
        self._listening: Listening | None = None
        self._open: dict[_Asked, None] = {}

    async def listen(self, path: Path) -> None:
        """Take requests; an agent whose folder cannot be written to works without."""
        try:
            self._listening = await listen_plain(f"unix:{path}", self._connection, key="0trust agent drain")
        except SetupError as error:
            _log.info("0trust agent drain and status cannot reach this agent, SIGTERM can", reason=str(error))

    def draining(self) -> None:
        """It has begun; who asks from now on waits for the same end."""
        self._drain = None

    async def close(self) -> None:
        """Take no more requests."""
        if self._listening is not None:
            await self._listening.close()

    def _connection(self) -> asyncio.Protocol | None:
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next((one for one in self._open if not one.has_asked), None)
            if oldest is None:
                return None
            oldest.abort()
        connection = _Asked(drain=self._asked, status=self._status, ended=self._ended)
        self._open[connection] = None
        return connection

    def _ended(self, connection: "_Asked") -> None:
        self._open.pop(connection, None)

    def _asked(self) -> None:
        drain, self._drain = self._drain, None
        if drain is not None:
            drain()


class _Asked(asyncio.Protocol):
    """One connection."""

    def __init__(
        self, *, drain: Callable[[], None], status: Callable[[], AgentStatus], ended: Callable[["_Asked"], None]
    ) -> None:
        self._drain = drain
        self._status = status
        self._ended = ended
        self._heard = b""
        self._transport: asyncio.Transport | None = None
        self._is_aborted = False

    @property
    def has_asked(self) -> bool:
        """It waits for the end of the agent, or for the rest of its answer."""
        return self._heard in (DRAIN, STATUS)

    def abort(self) -> None:
        """Close at once."""
        self._is_aborted = True
        self._ended(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._is_aborted:
            # Not at once: the loop begins to read only after this, and would never stop.
            asyncio.get_running_loop().call_soon(self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(self)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._heard += data
        if self._heard == DRAIN:
            self._drain()
        elif self._heard == STATUS:
            self._transport.write(self._status().model_dump_json().encode())
            self._transport.close()
        elif not any(word.startswith(self._heard) for word in (DRAIN, STATUS)):
            self._transport.close()
