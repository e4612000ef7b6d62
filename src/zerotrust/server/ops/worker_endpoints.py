"""Endpoints of a worker that only the other workers of the server use."""

import hashlib
from collections.abc import Callable
from typing import Final

from zerotrust.model import capture_admin, traffic_admin
from zerotrust.model import worker_messages as messages
from zerotrust.model.admin import AgentRequest, NoParameters
from zerotrust.net.json_api import Reply
from zerotrust.server.ops.admin import Endpoints
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.telemetry.metrics import MEDIA_TYPE

METRICS: Final = "/v1/worker/metrics"
NEWS: Final = "/v1/worker/news"
TRAFFIC: Final = "/v1/worker/traffic"
SERVICES: Final = "/v1/worker/services"
ROUND_TRIPS: Final = "/v1/worker/round-trips"
REQUESTS: Final = "/v1/worker/requests"
CONNECTION: Final = "/v1/worker/connection"
END: Final = "/v1/worker/end"
START_CAPTURE: Final = "/v1/worker/captures/start"
STOP_CAPTURE: Final = "/v1/worker/captures/stop"


def worker_endpoints(commands: AdminCommands, metrics: Callable[[], bytes]) -> Endpoints:
    """Return the endpoints.

    Args:
        commands: commands about this worker alone.
        metrics: returns the metrics of this worker.
    """
    own = _WorkerAnswers(commands, metrics)
    return {
        ("GET", METRICS): (NoParameters, own.metrics),
        ("GET", NEWS): (NoParameters, own.news),
        ("POST", TRAFFIC): (messages.ServiceName, own.traffic),
        ("POST", SERVICES): (messages.ServiceNames, own.services),
        ("POST", ROUND_TRIPS): (AgentRequest, own.round_trips),
        ("POST", REQUESTS): (messages.FinishedQuery, own.requests),
        ("POST", CONNECTION): (messages.OpenConnectionRequest, own.connection),
        ("POST", END): (messages.EndForActor, own.end),
        ("POST", START_CAPTURE): (messages.StartCaptureForActor, own.start_capture),
        ("POST", STOP_CAPTURE): (messages.StopCaptureForActor, own.stop_capture),
    }


class _WorkerAnswers:
    """Answers other workers."""

    def __init__(self, commands: AdminCommands, metrics: Callable[[], bytes]) -> None:
        self._commands = commands
        self._metrics = metrics

    async def metrics(self, _asked: NoParameters, _actor: str) -> Reply:
        return Reply(self._metrics(), media_type=MEDIA_TYPE)

    async def news(self, _asked: NoParameters, _actor: str) -> messages.WorkerNews:
        traffic, history = self._commands.traffic, self._commands.traffic.history
        agents = repr(self._commands.live_agents()).encode()
        return messages.WorkerNews(
            slot=history.sampler.slot,
            changes=history.recent.changes,
            agents=hashlib.blake2s(agents, digest_size=8).hexdigest(),
            streams=self._commands.streams,
            services=[
                messages.ServiceNews.model_construct(
                    agent=one[0], service=one[1], newest=history.recent.newest_of(one)
                )
                for one in traffic.services
            ],
            captures=self._commands.captures.listed(),
        )

    async def traffic(self, asked: messages.ServiceName, _actor: str) -> messages.TrafficAnswer:
        service = None
        if asked.agent is not None and asked.service is not None:
            service = (asked.agent, asked.service)
        counts = self._commands.traffic.history.sampler.counts(service)
        return messages.TrafficAnswer.model_construct(counts=counts)

    async def services(self, asked: messages.ServiceNames, _actor: str) -> messages.ServiceSlots:
        names = [(one.agent or "", one.service or "") for one in asked.services]
        return messages.ServiceSlots.model_construct(
            services=self._commands.traffic.history.counts(names)
        )

    async def round_trips(self, asked: AgentRequest, _actor: str) -> messages.RoundTrips:
        return self._commands.traffic.history.round_trips(asked.agent)

    async def requests(
        self, asked: messages.FinishedQuery, _actor: str
    ) -> messages.FinishedRequestList:
        return messages.FinishedRequestList.model_construct(
            requests=await self._commands.traffic.requests(asked)
        )

    async def connection(
        self, asked: messages.OpenConnectionRequest, _actor: str
    ) -> traffic_admin.ConnectionInfo:
        return await self._commands.connections.connection(asked.id)

    async def end(self, asked: messages.EndForActor, _actor: str) -> traffic_admin.EndedConnection:
        request = traffic_admin.EndConnectionRequest(id=asked.id)
        return await self._commands.connections.end(request, asked.actor)

    async def start_capture(
        self, asked: messages.StartCaptureForActor, _actor: str
    ) -> capture_admin.CaptureInfo:
        request = capture_admin.StartCaptureRequest(**asked.model_dump(exclude={"actor"}))
        return await self._commands.captures.start(request, asked.actor)

    async def stop_capture(
        self, asked: messages.StopCaptureForActor, _actor: str
    ) -> capture_admin.CaptureInfo:
        request = capture_admin.CaptureRequest(id=asked.id)
        return await self._commands.captures.stop(request, asked.actor)
