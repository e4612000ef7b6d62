"""uvloop with fixes: a socket error that follows data, a resolver that hangs, two false alarms."""

import asyncio
import traceback
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVarTuple, Unpack

import uvloop

from zerotrust.net.resolver import Resolver

if TYPE_CHECKING:
    from _typeshed import HasFileno

Arguments = TypeVarTuple("Arguments")


class WatchingLoop(uvloop.Loop):
    """uvloop that watches a descriptor with an error until its reader is removed.

    When epoll reports an error, libuv stops watching the descriptor (`uv__poll_io`), and uvloop
    0.23 calls the reader one last time. A reader that reads the data before the error and waits for
    more, as an asyncio transport does, is never called again. So it would miss a reset right behind
    data until it writes.

    uvloop alone holds a reference to the callback. If the callback is freed without
    `remove_reader`, uvloop has stopped watching, and the descriptor is added again.

    Names are resolved by `net.resolver`, so that the loop can close while a look-up hangs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._watched: dict[int, weakref.ref[Callable[[], Any]] | asyncio.Handle] = {}
        self._resolver = Resolver(self)

    def add_reader(
        self, fd: "int | HasFileno", callback: Callable[[Unpack[Arguments]], Any], *args: *Arguments
    ) -> None:
        number = _number(fd)
        self._forget(number)
        ready = partial(callback, *args)
        again = partial(self._again, fd, callback, *args)
        self._watched[number] = weakref.ref(ready, partial(self._dropped, number, again))
        super().add_reader(fd, ready)

    def remove_reader(self, fd: "int | HasFileno") -> Any:
        self._forget(_number(fd))
        return super().remove_reader(fd)

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        **hints: int,
    ) -> list[Any]:
        return await self._resolver.addresses(host, port, **hints)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # aiofastnet 1.2.0 reports a peer that closes its connection within the handshake, with a
        # class instead of an error. Whoever waits for the handshake gets the error anyway.
        if error is ConnectionResetError:
            return
        # anyio 4.16 registers `Future.set_result` for a unix socket. The socket may become ready
        # between the cancellation of the future and the removal of the callback, one turn later.
        # An error in our own callbacks has at least one more frame.
        if isinstance(error, asyncio.InvalidStateError) and _frames(error) == 1:
            return
        super().call_exception_handler(context)

    def close(self) -> None:
        self._watched.clear()
        super().close()

    def _forget(self, number: int) -> None:
        watched = self._watched.pop(number, None)
        if watched is not None and not isinstance(watched, weakref.ref):
            watched.cancel()

    def _dropped(self, number: int, again: Callable[[], None], _: object) -> None:
        self._watched[number] = self.call_soon(again)

    def _again(
        self, fd: "int | HasFileno", callback: Callable[[Unpack[Arguments]], Any], *args: *Arguments
    ) -> None:
        super().remove_reader(fd)  # clears the rest of the old watch
        self.add_reader(fd, callback, *args)


def _frames(error: BaseException) -> int:
    return sum(1 for _ in traceback.walk_tb(error.__traceback__))


def _number(fd: "int | HasFileno") -> int:
    return fd if isinstance(fd, int) else fd.fileno()
