"""Listening sockets: plain ones for Caddy, TLS ones for agents."""

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import aiofastnet

from zerotrust.errors import SetupError
from zerotrust.limits.client_network import network_of
from zerotrust.model.base import split_address
from zerotrust.net.channel import describe
from zerotrust.net.handshake_limiter import HandshakeLimiter
from zerotrust.net.inner_tls import SHUTDOWN_TIMEOUT, start_tls
from zerotrust.net.tasks import Tasks
from zerotrust.net.unix_socket import listen_unix
from zerotrust.net.websocket_transport import WebSocketTransport
from zerotrust.telemetry import logs

BACKLOG: Final = 1024
HANDSHAKE_TIMEOUT: Final = 10.0
ACCEPT_PAUSE: Final = 0.5
"""Seconds without accepting after an accept failed, because no descriptors are left."""
ACCEPTS: Final = 16
"""Connections accepted in one turn of the loop, so that open connections do not wait for many
new ones."""
WARNING_INTERVAL: Final = 10.0
"""Shortest time between two warnings of one kind, in seconds."""

_UNIX: Final = "unix:"
NO_SUCH_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""Errors of a bind on a machine without IPv6, or without IPv4."""

Factory = Callable[[], asyncio.Protocol]
PlainFactory = Callable[[], asyncio.Protocol | None]
"""Returns the protocol of a new connection, or None to close it."""

_log = logs.logger("listen")


class Listening(Protocol):
    """An address at which connections are accepted."""

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The listening sockets."""

    async def close(self) -> None:
        """Stop accepting; open connections stay."""


class RateLimitedWarning:
    """A warning about a frequent event: logged at once, then every WARNING_INTERVAL with a
    count."""

    def __init__(self, event: str, **fields: object) -> None:
        self._event = event
        self._fields = fields
        self._count = 0
        self._is_waiting = False

    def note(self, **fields: object) -> None:
        """Count one more event."""
        self._count += 1
        self._fields |= fields
        if not self._is_waiting:
            self._log()

    def _log(self) -> None:
        self._is_waiting = self._count > 0
        if self._is_waiting:
            _log.warning(self._event, count=self._count, **self._fields)
            self._count = 0
            asyncio.get_running_loop().call_later(WARNING_INTERVAL, self._log)


class PlainListening:
    """Accepts plain connections at its sockets until it is closed.

    The loop's own server cannot refuse a connection. When the process has no descriptors left, it
    calls accept again and again without a pause.
    """

    def __init__(self, sockets: list[socket.socket], factory: PlainFactory, *, key: str) -> None:
        self.sockets = sockets
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._failures = RateLimitedWarning("cannot accept connections; they wait", listener=key)
        self._connecting: set[asyncio.Task[None]] = set()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._paths = {
            path: path.stat().st_ino for path in map(_path_of, sockets) if path is not None
        }
        for listening in sockets:
            self._watch(listening)

    async def close(self) -> None:
        """Stop accepting; open connections stay."""
        for path, inode in self._paths.items():
            with suppress(OSError):
                # Another process may have replaced the socket by its own.
                if path.stat().st_ino == inode:
                    path.unlink()
        for pause in self._pauses.values():
            pause.cancel()
        sockets, self.sockets = self.sockets, []
        for listening in sockets:
            self._loop.remove_reader(listening)
            # The kernel has accepted the connections in the queue already: closing would reset
            # their requests.
            late = list(_queued(listening))
            listening.close()
            for connection in late:
                self.take(connection)
        await asyncio.gather(*self._connecting)

    def _watch(self, listening: socket.socket) -> None:
        self._pauses.pop(listening, None)
        self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._loop.remove_reader(listening)
                self._pauses[listening] = self._loop.call_later(
                    ACCEPT_PAUSE, self._watch, listening
                )
                self._failures.note(error=describe(error))
                return
            self.take(connection)

    def take(self, connection: socket.socket) -> None:
        """Serve an accepted connection, or close it."""
        protocol = self._factory()
        if protocol is None:
            connection.close()
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._connect(protocol, connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, protocol: asyncio.Protocol, connection: socket.socket) -> None:
        try:
            await aiofastnet.connect_accepted_socket(self._loop, lambda: protocol, connection)
        except OSError as error:
            connection.close()
            protocol.connection_lost(error)


async def listen_plain(
    address: str, factory: PlainFactory, *, key: str, beside: Listening | None = None
) -> PlainListening:
    """Accept plain connections at "host:port" or "unix:path" (mode 0600).

    Args:
        key: the configuration key of the address, for error messages.
        beside: a listening that this one replaces; both may have the same port.

    Raises:
        SetupError: the address can't be used.
    """
    return PlainListening(bind_all(address, key=key, beside=beside), factory, key=key)


class LimitedListener:
    """Accepts connections whose clients are unknown, and limits those that are not served yet.

    Args:
        refused: called with the address of a client and the reason why its handshake failed.

    Attributes:
        handshakes: limiter of the running handshakes.
    """

    def __init__(self, *, refused: Callable[[str, str], None], tasks: Tasks) -> None:
        self._refused = refused
        self._tasks = tasks
        self.handshakes = HandshakeLimiter()
        self._will_report = False

    def listen(self, address: str, *, key: str, beside: Listening | None = None) -> "TlsListening":
        """Listen at "host:port", as `listen_plain` does; without a host, on all interfaces.

        Raises:
            SetupError: the address can't be used.
        """
        sockets = bind_all(address, key=key, beside=beside)
        return TlsListening(
            sockets, [self._tasks.spawn(self._accept(one), "accept agents") for one in sockets]
        )

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await aiofastnet.sock_accept(loop, listening)
            except OSError as error:
                self._refused("-", describe(error))
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            self.take(connection, address[0], address[1])
            # One connection a turn, so that open connections do not wait for many new ones.
            await asyncio.sleep(0)

    def take(self, connection: socket.socket, host: str, port: int) -> None:
        """Serve an accepted connection of a client at this address."""
        self._begin(partial(self._serve, connection), connection.close, host, f"{host}:{port}")

    def take_handed(self, connection: socket.socket) -> None:
        """Serve a connection that another process has accepted."""
        try:
            host, port = connection.getpeername()[:2]
        except OSError:  # the client has gone
            connection.close()
        else:
            connection.setblocking(False)
            self.take(connection, host, port)

    def _begin(
        self,
        handshake: Callable[[], Awaitable[object]],
        refuse: Callable[[], None],
        host: str,
        peer: str,
    ) -> None:
        self._tasks.spawn(self._limited(handshake, refuse, host, peer), "tls handshake")

    async def _serve(self, connection: socket.socket) -> None:
        """Serve a connection; return when its client is known.

        Raises:
            OSError: the handshake failed.
        """
        raise NotImplementedError

    async def _limited(
        self,
        handshake: Callable[[], Awaitable[object]],
        refuse: Callable[[], None],
        host: str,
        peer: str,
    ) -> None:
        """Do a handshake if the client's network may have one; call `refuse` otherwise."""
        network = network_of(host.encode())
        timeout = asyncio.timeout(HANDSHAKE_TIMEOUT)

        def give_up() -> None:
            if not timeout.expired():
                timeout.reschedule(0.0)

        if not self.handshakes.begin(network, give_up, asyncio.get_running_loop().time()):
            refuse()
            self._report_soon()
            return
        try:
            async with timeout:
                await handshake()
        except OSError as error:
            evicted = timeout.when() == 0.0
            self._refused(
                peer, "too many handshakes of its network" if evicted else describe(error)
            )
            # Break the reference cycle of error and transport: it would keep 70 KiB until the next
            # collection.
            error.__traceback__ = None
        finally:
            self.handshakes.end(network, give_up)

    def _report_soon(self) -> None:
        """Report refused connections by network, because one log line each costs more than a
        handshake."""
        if not self._will_report:
            self._will_report = True
            asyncio.get_running_loop().call_later(WARNING_INTERVAL, self._report)

    def _report(self) -> None:
        self._will_report = False
        for network, count in self.handshakes.take_refused().items():
            self._refused(
                _network_text(network),
                f"{count} connections without a handshake: too many of its network",
            )


class TlsListener(LimitedListener):
    """Accepts TLS connections. The loop's own server hides the reason of a failed handshake.

    Args:
        refused: as in `LimitedListener`.
    """

    def __init__(
        self,
        *,
        context: ssl.SSLContext,
        factory: Factory,
        refused: Callable[[str, str], None],
        tasks: Tasks,
    ) -> None:
        super().__init__(refused=refused, tasks=tasks)
        self._context = context
        self._factory = factory

    def reconfigure(self, context: ssl.SSLContext) -> None:
        """Use this context for new handshakes; open connections stay."""
        self._context = context

    def accept(self, websocket: WebSocketTransport, host: str) -> None:
        """Accept TLS inside a WebSocket of a client at this address, as a connection."""
        handshake = partial(
            start_tls, websocket.as_transport(), self._factory, tls=self._context, server_name=None
        )
        self._begin(handshake, websocket.abort, host, f"{host} (WebSocket)")

    async def _serve(self, connection: socket.socket) -> None:
        await aiofastnet.connect_accepted_socket(
            asyncio.get_running_loop(),
            self._factory,
            connection,
            ssl=self._context,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
        )


def _network_text(network: bytes) -> str:
    return (
        str(ipaddress.ip_address(network))
        if len(network) == 4
        else f"{ipaddress.IPv6Address(network + bytes(8))}/64"
    )


class TlsListening:
    """Sockets at which a `TlsListener` accepts connections."""

    def __init__(self, sockets: list[socket.socket], accepting: list[asyncio.Task[None]]) -> None:
        self.sockets = sockets
        self._accepting = accepting

    async def close(self) -> None:
        """Stop accepting; open connections stay."""
        for task in self._accepting:
            task.cancel()
        # The loop must stop watching a descriptor before it is closed, because its number is used
        # again.
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listening in self.sockets:
            listening.close()


def bind_all(address: str, *, key: str, beside: Listening | None) -> list[socket.socket]:
    """Return sockets listening at an address, as `listen_plain` and `LimitedListener` need them.

    Raises:
        SetupError: the address can't be used.
    """
    previous = beside.sockets if beside is not None else ()
    made: list[socket.socket] = []
    try:
        if address.startswith(_UNIX):
            made.append(listen_unix(address.removeprefix(_UNIX), BACKLOG))
            made[0].setblocking(False)
            return made
        host, port = split_address(address)
        for family, where in _families(host):
            try:
                made.append(_bind(family, where, port, previous))
            except OSError as error:
                if not made or error.errno not in NO_SUCH_FAMILY:
                    raise
    except OSError as error:
        for one in made:
            one.close()
        raise SetupError(f"{key}: cannot listen on {address}: {describe(error)}") from error
    return made


def try_bind(host: str, port: int, *, udp: bool) -> None:
    """Bind a socket to an IP address without sharing it, and close the socket.

    Raises:
        OSError: the address is in use, needs a privilege, or is not on this machine.
    """
    (family, where), *_ = _families(host)
    if not udp:
        _bind(family, where, port, ()).close()
        return
    with socket.socket(family, socket.SOCK_DGRAM) as bound:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((where, port))


def _queued(listening: socket.socket) -> Iterator[socket.socket]:
    """Accept and return the connections in the socket's queue."""
    with suppress(OSError):
        while True:
            connection, _ = listening.accept()
            yield connection


def _path_of(listening: socket.socket) -> Path | None:
    return Path(listening.getsockname()) if listening.family == socket.AF_UNIX else None


def _families(host: str) -> list[tuple[int, str]]:
    if not host:
        return (
            [(socket.AF_INET, ""), (socket.AF_INET6, "::")]
            if socket.has_ipv6
            else [(socket.AF_INET, "")]
        )
    return [(socket.AF_INET6 if ":" in host else socket.AF_INET, host)]


def _bind(family: int, host: str, port: int, previous: Sequence[socket.socket]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _share(previous, listening, port)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _share(previous: Sequence[socket.socket], listening: socket.socket, port: int) -> None:
    """Let an address replace one that overlaps it, such as "127.0.0.1:8443" and ":8443"."""
    same = [
        one for one in previous if one.family == listening.family and one.getsockname()[1] == port
    ]
    for one in (*same, listening) if same else ():
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
