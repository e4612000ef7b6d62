"""Resolver of host names: look-ups in threads that the end of the loop does not wait for."""

import _thread
import asyncio
import errno
import socket
from contextlib import suppress
from typing import Any, Final

SHARED: Final = 1.0
"""Seconds in which a look-up is shared by all who ask for the same name.

Later another one starts beside it: the system may have another name server since then.
"""
MOST: Final = 64
"""Running look-ups from which on each name has only one."""

_Address = tuple[Any, ...]
_Failure = tuple[type[OSError], tuple[Any, ...]]


class Resolver:
    """Resolves host names with the system's resolver, each in a thread of its own.

    uvloop has threads for two look-ups, and its loop waits for them when it closes. While a name
    server does not answer, each takes ten seconds or more: other names would wait as long, and so
    would the end of the process.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running = 0
        self._latest: dict[_Address, _LookUp] = {}

    async def addresses(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[_Address]:
        """Return the addresses of a host, as `socket.getaddrinfo` does.

        Raises:
            OSError: the name has no address, or no thread can be started.
            UnicodeError: the name can't be encoded.
        """
        with suppress(socket.gaierror):
            # An address needs no look-up.
            numeric = flags | socket.AI_NUMERICHOST
            return list(socket.getaddrinfo(host, port, family, type, proto, numeric))
        look_up = self._look_up((host, port, family, type, proto, flags))
        found = await asyncio.shield(look_up.done)
        if isinstance(found, list):
            return list(found)
        kind, arguments = found
        raise kind(*arguments)

    def _look_up(self, asked: _Address) -> "_LookUp":
        """Return a look-up that runs; start it if there is none or the last one is old."""
        now, last = self._loop.time(), self._latest.get(asked)
        if last is not None and (now - last.begun_at < SHARED or self._running >= MOST):
            return last
        look_up = _LookUp(self._loop, asked, now)
        try:
            _thread.start_new_thread(self._resolve, (look_up,))
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "no thread for the look-up of a name") from error
        self._running += 1
        self._latest[asked] = look_up
        return look_up

    def _resolve(self, look_up: "_LookUp") -> None:
        """Run in the thread."""
        found: list[_Address] | _Failure
        try:
            found = list(socket.getaddrinfo(*look_up.asked))
        except OSError as error:
            found = type(error), error.args
        with suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._ended, look_up, found)

    def _ended(self, look_up: "_LookUp", found: list[_Address] | _Failure) -> None:
        self._running -= 1
        if self._latest.get(look_up.asked) is look_up:
            del self._latest[look_up.asked]
        look_up.done.set_result(found)


class _LookUp:
    """A look-up that runs.

    Attributes:
        asked: arguments of `socket.getaddrinfo`.
        begun_at: time of the loop.
        done: the addresses, or the error.
    """

    __slots__ = ("asked", "begun_at", "done")

    def __init__(self, loop: asyncio.AbstractEventLoop, asked: _Address, begun_at: float) -> None:
        self.asked = asked
        self.begun_at = begun_at
        self.done: asyncio.Future[list[_Address] | _Failure] = loop.create_future()
