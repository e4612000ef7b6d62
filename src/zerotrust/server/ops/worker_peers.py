"""Other workers of this server: each asks the others over their own admin sockets."""

import asyncio
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from zerotrust.net.json_api import CallError
from zerotrust.net.tls import trusting_nobody
from zerotrust.server.ops.worker_endpoints import METRICS
from zerotrust.telemetry import logs, merged_metrics

TIMEOUT: Final = 5.0
"""Seconds in which a worker must answer. One that restarts has no sessions and nothing to say."""
SILENCE: Final = 3.0
"""Seconds for which a worker that has not answered in time is not asked: a page asks several times.
"""
MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of an answer."""

Answer = TypeVar("Answer", bound=BaseModel)

_log = logs.logger("workers")


class _Heard(NamedTuple):
    """Answer of a worker."""

    status: int
    body: bytes


_LATE: Final = _Heard(HTTPStatus.GATEWAY_TIMEOUT, b"")


class WorkerPeers:
    """Asks the other workers. Those that do not answer are left out.

    Args:
        sockets: returns the paths of their admin sockets.
    """

    def __init__(self, sockets: Callable[[], Sequence[Path]]) -> None:
        import httpx2  # noqa: F401 - now, as it takes long; a server without workers saves it

        self._sockets = sockets
        self._silent_until: dict[Path, float] = {}

    @property
    def count(self) -> int:
        """Number of the other workers, with those that do not answer."""
        return len(self._sockets())

    async def get(self, path: str, model: type[Answer], query: BaseModel) -> list[Answer]:
        """Return the answers of the workers to a query."""
        said = query.model_dump(exclude_none=True)
        return _models(model, await self._ask("GET", path, params=said))

    async def post(self, path: str, model: type[Answer], request: BaseModel) -> list[Answer]:
        """Return the answers of the workers to a request."""
        said = request.model_dump(exclude_none=True)
        return _models(model, await self._ask("POST", path, json=said))

    async def carry_out(self, path: str, model: type[Answer], request: BaseModel) -> Answer | None:
        """Return the answer of the worker that carries a command out; None if it concerns none.

        Raises:
            CallError: the worker that it concerns refuses; or none does, and one did not answer in
                time, so it may still carry out the command.
        """
        self._silent_until.clear()  # unlike a page, a command asks all
        said = request.model_dump(exclude_none=True)
        heard = await self._ask("POST", path, json=said)
        for done in _models(model, heard):
            return done
        for one in heard:
            if 400 <= one.status < 500 and one.status != 404:
                raise CallError(json.loads(one.body)["error"], one.status)
        if _LATE in heard:
            raise CallError(
                f"a worker of this server did not answer within {TIMEOUT:g} s. It may still do"
                " this: check that, and try again if it has not",
                _LATE.status,
            )
        return None

    async def add_metrics(self, own: bytes) -> bytes:
        """Return the metrics of all workers together."""
        found = await self._ask("GET", METRICS)
        return merged_metrics.merge([own, *(one.body for one in found if one.status == 200)])

    async def _ask(self, method: str, path: str, **said: Any) -> list[_Heard]:
        now = monotonic()
        found = await asyncio.gather(
            *(
                self._answer(socket, method, path, said)
                for socket in self._sockets()
                if self._silent_until.get(socket, now) <= now
            )
        )
        return [one for one in found if one is not None]

    async def _answer(
        self, socket: Path, method: str, path: str, said: dict[str, Any]
    ) -> _Heard | None:
        """Return the answer of the worker with this socket; None if there is no worker."""
        import httpx2

        try:
            async with asyncio.timeout(TIMEOUT):
                return await _heard(socket, method, path, said)
        except TimeoutError:
            self._silent_until[socket] = monotonic() + SILENCE
            _log.debug("a worker does not answer in time", socket=str(socket))
            return _LATE
        except httpx2.HTTPError as error:
            _log.debug("a worker does not answer", socket=str(socket), reason=repr(error))
        return None


def _models(model: type[Answer], heard: Sequence[_Heard]) -> list[Answer]:
    """Return the answers of the workers that succeeded and, after an update, speak so, too."""
    found = []
    for one in heard:
        if one.status == 200:
            try:
                found.append(model.model_validate_json(one.body))
            except ValidationError as error:
                _log.debug("a worker has another version", reason=repr(error)[:1000])
    return found


async def _heard(socket: Path, method: str, path: str, said: dict[str, Any]) -> _Heard:
    """Return the answer of the worker with this socket; raises httpx2.HTTPError."""
    import httpx2

    transport = httpx2.AsyncHTTPTransport(uds=str(socket), verify=trusting_nobody())
    async with (
        httpx2.AsyncClient(
            transport=transport, base_url="http://worker", timeout=None, trust_env=False
        ) as client,
        client.stream(method, path, **said) as answer,
    ):
        body = bytearray()
        async for data in answer.aiter_raw():
            body += data
            if len(body) > MAX_ANSWER:
                raise httpx2.DecodingError("the answer is too long")
        return _Heard(answer.status_code, bytes(body))
