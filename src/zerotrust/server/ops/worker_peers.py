"""Other workers of this server: each asks the others over their own admin sockets."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from zerotrust.model import admin
from zerotrust.model import traffic_admin as views
from zerotrust.net.json_api import Reply
from zerotrust.server.ops.admin import Endpoints
from zerotrust.server.ops.connection_admin import ConnectionAdmin
from zerotrust.telemetry import logs, merged_metrics
from zerotrust.telemetry.metrics import MEDIA_TYPE

TIMEOUT: Final = 2.0
"""Seconds in which a worker must answer. One that restarts has no sessions and nothing to say."""
METRICS: Final = "/v1/worker/metrics"
END: Final = "/v1/worker/end"

Answer = TypeVar("Answer", bound=BaseModel)

_log = logs.logger("workers")


class EndForActor(views.EndConnectionRequest):
    """Request to end a connection of the worker for an administrator whom another one has heard."""

    actor: str


def worker_endpoints(connections: ConnectionAdmin, metrics: Callable[[], bytes]) -> Endpoints:
    """Return the endpoints that only other workers use.

    Args:
        connections: the connections of this worker.
        metrics: returns the metrics of this worker.
    """

    async def read_metrics(_asked: admin.NoParameters, _actor: str) -> Reply:
        return Reply(metrics(), media_type=MEDIA_TYPE)

    async def end(asked: EndForActor, _actor: str) -> views.EndedConnection:
        return await connections.end(views.EndConnectionRequest(id=asked.id), asked.actor)

    return {
        ("GET", METRICS): (admin.NoParameters, read_metrics),
        ("POST", END): (EndForActor, end),
    }


class WorkerPeers:
    """Asks the other workers. Those that do not answer are left out.

    Args:
        sockets: returns the paths of their admin sockets.
    """

    def __init__(self, sockets: Callable[[], Sequence[Path]]) -> None:
        self._sockets = sockets

    @property
    def count(self) -> int:
        """Number of the other workers, with those that do not answer."""
        return len(self._sockets())

    async def get(self, path: str, model: type[Answer], query: BaseModel) -> list[Answer]:
        """Return the answers of the workers to a query."""
        said = query.model_dump(exclude_none=True)
        return [
            model.model_validate_json(text) for text in await self._texts("GET", path, params=said)
        ]

    async def post(self, path: str, model: type[Answer], request: BaseModel) -> list[Answer]:
        """Return the answers of the workers that carry a command out."""
        said = request.model_dump(exclude_none=True)
        return [
            model.model_validate_json(text) for text in await self._texts("POST", path, json=said)
        ]

    async def add_metrics(self, own: bytes) -> bytes:
        """Return the metrics of all workers together."""
        return merged_metrics.merge([own, *await self._texts("GET", METRICS)])

    async def _texts(self, method: str, path: str, **said: Any) -> list[bytes]:
        found = await asyncio.gather(
            *(_text(socket, method, path, said) for socket in self._sockets())
        )
        return [text for text in found if text is not None]


async def _text(socket: Path, method: str, path: str, said: dict[str, Any]) -> bytes | None:
    """Return the answer of the worker with this socket; None where it does not answer so."""
    import httpx2  # a server without workers saves it

    transport = httpx2.AsyncHTTPTransport(
        uds=str(socket),
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # unused; the default reads all CAs
    )
    try:
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://worker", timeout=TIMEOUT
        ) as client:
            answer = await client.request(method, path, **said)
    except httpx2.HTTPError as error:
        _log.debug("a worker does not answer", socket=str(socket), reason=repr(error))
        return None
    return answer.content if answer.is_success else None
