"""Control socket of a running agent, for `0trust agent drain` and `0trust agent status`.

It is a unix socket beside the agent's configuration: agent.sock for agent.yaml. Only the agent's
user and root can open it (mode 0600). A client sends one word. After `status` the agent answers
in JSON and closes the connection. After `drain` it drains, and the connection stays open until
the agent's process ends.

A file with a process id would not do: the id may belong to another process by now, and it means
nothing outside the agent's container. If two agents run with one configuration, the newer one has
the socket.
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
"""Concurrent connections. One more closes the oldest connection without a request, or is refused
if all of them have sent one."""

_log = logs.logger("agent")


def control_path(config: Path) -> Path:
    """Return the path of the control socket for this configuration file."""
    return config.absolute().with_suffix(".sock")


async def request_drain(path: Path) -> None:
    """Drain the agent and wait until it has ended: `drain_timeout` and a few seconds at most.

    Raises:
        SetupError: no agent listens there, or this user may not open the socket.
    """
    # The agent sends no answer: the connection closes when its process ends.
    await _request(path, DRAIN)


async def request_status(path: Path) -> AgentStatus:
    """Return the agent's status.

    Raises:
        SetupError: no agent listens there, this user may not open the socket, or no answer came.
    """
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return AgentStatus.model_validate_json(await _request(path, STATUS))
    except TimeoutError:
        raise SetupError(
            f"{path}: the agent did not answer within {ANSWER_TIMEOUT:g} s; see its log"
        ) from None
    except ValidationError:
        raise SetupError(
            f"{path}: the running agent has another version than this command; restart it"
        ) from None


async def _request(path: Path, word: bytes) -> bytes:
    try:
        reader, writer = await asyncio.open_unix_connection(path)
        with closing(writer):
            writer.write(word)
            return await reader.read()
    except (FileNotFoundError, ConnectionRefusedError):
        raise SetupError(f"{path}: no agent runs with this configuration") from None
    except OSError as error:
        raise SetupError(f"{path}: cannot connect to the agent: {describe(error)}") from error


class ControlSocket:
    """Server side of the control socket.

    Args:
        drain: called at the first `drain` request only, because a second call would end the agent
            at once.
        status: returns the agent's status; called for each `status` request.

    Attributes:
        connections: the open connections, oldest first.
    """

    def __init__(self, drain: Callable[[], object], status: Callable[[], AgentStatus]) -> None:
        self._drain: Callable[[], object] | None = drain
        self._status = status
        self._listening: Listening | None = None
        self.connections: dict[_ControlConnection, None] = {}

    async def listen(self, path: Path) -> None:
        """Listen at this path; without write access to the folder the agent works without a
        socket."""
        try:
            self._listening = await listen_plain(
                f"unix:{path}", self._connection, key="0trust agent drain"
            )
        except SetupError as error:
            _log.info(
                "no control socket: 0trust agent drain and status do not work", reason=str(error)
            )

    def draining(self) -> None:
        """Note that the agent drains already; later `drain` requests only wait for its end."""
        self._drain = None

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            await self._listening.close()

    def _connection(self) -> asyncio.Protocol | None:
        if len(self.connections) >= MAX_CONNECTIONS:
            oldest = next((one for one in self.connections if not one.has_request), None)
            if oldest is None:
                return None
            oldest.abort()
        connection = _ControlConnection(
            drain=self._drain_once, status=self._status, ended=self._ended
        )
        self.connections[connection] = None
        return connection

    def _ended(self, connection: "_ControlConnection") -> None:
        self.connections.pop(connection, None)

    def _drain_once(self) -> None:
        drain, self._drain = self._drain, None
        if drain is not None:
            drain()


class _ControlConnection(asyncio.Protocol):
    """One connection to the control socket."""

    def __init__(
        self,
        *,
        drain: Callable[[], None],
        status: Callable[[], AgentStatus],
        ended: Callable[["_ControlConnection"], None],
    ) -> None:
        self._drain = drain
        self._status = status
        self._ended = ended
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._is_aborted = False

    @property
    def has_request(self) -> bool:
        """The client has sent a complete request."""
        return self._received in (DRAIN, STATUS)

    def abort(self) -> None:
        """Close at once."""
        self._is_aborted = True
        self._ended(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._is_aborted:
            # Aborted later, because the loop starts reading after this callback and would never
            # stop.
            asyncio.get_running_loop().call_soon(self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(self)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        if self._received == DRAIN:
            self._drain()
        elif self._received == STATUS:
            self._transport.write(self._status().model_dump_json().encode())
            self._transport.close()
        elif not any(word.startswith(self._received) for word in (DRAIN, STATUS)):
            self._transport.close()
