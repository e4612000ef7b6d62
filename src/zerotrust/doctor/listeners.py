"""Check of the server's own ports and socket: does something listen, and is it this server?"""

import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from zerotrust.caddy.render import listen_hosts
from zerotrust.doctor.public_names import AddressAnswer, Roots, ping
from zerotrust.model.base import join_address, split_address
from zerotrust.model.doctor import Finding
from zerotrust.model.server import ServerConfig
from zerotrust.net.timed_request import TIMEOUT, Target, TimedAttempt, attempt, unverified

_ANY: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - they are replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An address at which the server or its Caddy should listen.

    Attributes:
        key: configuration key of the address.
        kind: the protocol there.
        path: path of a unix socket, instead of host and port.
    """

    key: str
    kind: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or join_address(self.host, self.port)

    @property
    def name(self) -> str:
        """Return the words for this address in a sentence."""
        return f"socket {self.path}" if self.path else f"port {self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerAnswer:
    """Course of an attempt at a listener; `answer` is that of a ping, for ports of Caddy."""

    listener: Listener
    course: TimedAttempt
    answer: AddressAnswer | None = None


def listeners(config: ServerConfig) -> list[Listener]:
    """Return the addresses at which server and Caddy listen."""
    found = []
    for key, address in (
        ("server.listen_addr", config.server.listen_addr),
        ("api.listen_addr", config.api_address),
    ):
        if address.startswith("unix:"):
            found.append(Listener(key=key, path=address.removeprefix("unix:"), kind="unix"))
        else:
            host, port = split_address(address)
            found.append(Listener(key=key, host=_local(host), port=port, kind="tcp"))
    if config.caddy.mode == "managed":
        host = _local(listen_hosts(config.caddy)[0])
        ports = (("https", config.caddy.https_port), ("http", config.caddy.http_port))
        found += [
            Listener(key=f"caddy.{kind}_port", host=host, port=port, kind=kind)
            for kind, port in ports
            if port
        ]
    return found


def _local(host: str) -> str:
    """Return an address of this machine for one to listen on."""
    return _ANY.get(host, host)


async def ask_listener(
    listener: Listener, *, name: str, roots: Roots, step_timeout: float = TIMEOUT
) -> ListenerAnswer:
    """Connect to a listener; ping the server through those of Caddy.

    Args:
        name: a host name that the server serves; empty if there is none.
    """
    target = Target(address=listener.host, port=listener.port, path=listener.path, method="")
    course = await attempt(target, step_timeout=step_timeout)
    tls: ssl.SSLContext | None = None
    if course.failed_at is not None or listener.kind in ("tcp", "unix"):
        return ListenerAnswer(listener=listener, course=course)
    if listener.kind == "https":
        tls = unverified()
    if not name and listener.kind == "https":
        return ListenerAnswer(listener=listener, course=course)
    answer = await ping(
        name or "localhost",
        address=listener.host,
        port=listener.port,
        tls=tls,
        roots=roots,
        step_timeout=step_timeout,
    )
    return ListenerAnswer(listener=listener, course=course, answer=answer)


def judge_listeners(answers: Iterable[ListenerAnswer], *, running: bool) -> Iterator[Finding]:
    """Yield what is wrong with the ports of the server.

    Args:
        running: the server's admin socket answers.
    """
    for one in answers:
        listener = one.listener
        if running and one.course.failed_at is not None:
            yield Finding(
                check="port.closed",
                level="broken",
                subject=str(listener),
                what=f"the server does not listen on {listener.name} ({listener.key})",
                seen=f"{listener}: {one.course.error}",
                fix="see the server's log, and restart it if this key has changed",
            )
        elif one.answer is not None and one.answer.outcome == "other":
            yield _taken(listener, one.answer.note)
        elif not running and one.course.failed_at is None:
            yield _taken(listener, "a program listens there, and the server does not run")


def _taken(listener: Listener, seen: str) -> Finding:
    return Finding(
        check="port.taken",
        level="broken",
        subject=str(listener),
        what=f"{listener.name} belongs to another program",
        seen=seen,
        fix=f"stop that program (ss -lnp shows it), or change {listener.key}",
    )
