"""Tests of zerotrust.server.ops.all_workers_traffic: this worker and another, with requests."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel

from tests.unit.server.observed_proxy import ObservedProxy
from zerotrust.model.worker_messages import FinishedQuery
from zerotrust.net.tasks import Tasks
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.server.ops.all_workers_traffic import AllWorkersTraffic
from zerotrust.server.ops.traffic_admin import ServiceNumbers, TrafficAdmin
from zerotrust.server.ops.traffic_history import TrafficHistory
from zerotrust.server.ops.traffic_sampler import TrafficSampler
from zerotrust.server.ops.worker_endpoints import worker_endpoints
from zerotrust.server.ops.worker_news import NewsReader
from zerotrust.server.ops.worker_peers import WorkerPeers
from zerotrust.telemetry.hour_ring import SLOT

pytestmark = pytest.mark.anyio

APP = ("home", "app")


class Worker:
    """A worker with a proxy."""

    def __init__(self) -> None:
        self.proxy = proxy = ObservedProxy()
        self.history = TrafficHistory(lambda: proxy.registry.sessions, proxy.ingress, Tasks())
        proxy.sampler = TrafficSampler(
            lambda: proxy.registry.sessions, clock=lambda: proxy.now, shared=True
        )
        self.history.sampler, self.history.recent = proxy.sampler, proxy.recent
        proxy.ingress.observers = (self.history.observe,)

    async def end_slot(self) -> None:
        self.proxy.now += SLOT
        await self.proxy.sampler.look()


class Peer:
    """The other worker: its answers pass as JSON."""

    count = 1

    def __init__(self, worker: Worker) -> None:
        self.answers = True
        commands = SimpleNamespace(
            traffic=TrafficAdmin(worker.history),
            captures=SimpleNamespace(listed=list),
            live_agents=lambda: None,
            streams=0,
        )
        self._endpoints = worker_endpoints(cast("AdminCommands", commands), lambda: b"")

    async def get(self, path: str, model: type[BaseModel], asked: BaseModel) -> list[Any]:
        return await self._ask("GET", path, model, asked)

    async def post(self, path: str, model: type[BaseModel], asked: BaseModel) -> list[Any]:
        return await self._ask("POST", path, model, asked)

    async def _ask(
        self, method: str, path: str, model: type[BaseModel], asked: BaseModel
    ) -> list[Any]:
        if not self.answers:
            return []
        kind, answer = self._endpoints[method, path]
        request = kind.model_validate_json(json.dumps(asked.model_dump(exclude_none=True)))
        reply = cast("BaseModel", await answer(request, ""))
        return [model.model_validate_json(json.dumps(reply.model_dump()))]


class Both:
    """Both workers, asked at the first one."""

    def __init__(self) -> None:
        self.own, self.other = Worker(), Worker()
        self.peer = Peer(self.other)
        peers = cast("WorkerPeers", self.peer)
        self.news = NewsReader(peers)
        self.traffic = AllWorkersTraffic(self.own.history, peers=peers, news=self.news)

    async def end_slot(self) -> None:
        await self.own.end_slot()
        await self.other.end_slot()
        await self.news.refresh(now=True)

    async def paths(self, limit: int = 9, **after: Any) -> list[str]:
        asked = FinishedQuery(agent="home", service="app", limit=limit, **after)
        return [one.path for one in await self.traffic.requests(asked)]


async def test_numbers_of_both_workers() -> None:
    both = Both()
    await both.own.proxy.get()
    await both.other.proxy.get()
    await both.other.proxy.get(status=503)
    await both.other.proxy.open_websocket()
    await both.end_slot()
    hour = await both.traffic.of_service(APP)
    assert hour is not None
    assert hour.requests[-1] * SLOT == pytest.approx(3)
    assert hour.errors[-1] == pytest.approx(1 / 3)
    assert hour.websockets[-1] == 1
    assert (await both.traffic.total()).requests[-1] == hour.requests[-1]
    (numbers,) = await both.traffic.numbers([APP])
    expected = ServiceNumbers(hour.requests[-1], hour.errors[-1], hour.p99[-1], 1, 3)
    assert numbers == expected
    both.peer.answers = False
    (numbers,) = await both.traffic.numbers([APP])
    assert numbers.requests * SLOT == pytest.approx(1)
    assert numbers.kept == 1


async def test_a_service_of_the_other_worker_alone() -> None:
    both = Both()
    assert both.traffic.services == set()
    assert await both.traffic.of_service(APP) is None
    await both.other.proxy.get()
    await both.end_slot()
    assert both.traffic.services == {APP}
    assert await both.traffic.of_service(APP) is not None
    assert (await both.traffic.numbers([APP]))[0].kept == 1


async def test_requests_of_both_workers_by_their_ends() -> None:
    both = Both()
    for number in range(3):
        await both.own.proxy.get(f"/own{number}")
        await both.other.proxy.get(f"/other{number}")
    kept = [one for each in (both.own, both.other) for one in each.history.recent.of_service(APP)]
    kept.sort(key=lambda one: (one.ended, one.id), reverse=True)
    paths = [one.path for one in kept]
    assert await both.paths() == paths
    assert await both.paths(limit=2) == paths[:2]
    assert await both.paths(ended=kept[1].ended, id=kept[1].id) == paths[2:]


async def test_round_trips_of_both_workers() -> None:
    both = Both()
    both.own.proxy.pair.server.session.keepalive.round_trip = 0.02
    both.other.proxy.pair.server.session.keepalive.round_trip = 0.01
    await both.end_slot()
    assert (await both.traffic.round_trips("home"))[-1] == pytest.approx(0.01)


async def test_versions_change_with_the_other_worker() -> None:
    both = Both()
    versions: tuple[Callable[[], Any], ...] = (
        lambda: both.traffic.slot,
        lambda: both.traffic.services_version,
        lambda: both.traffic.newest_of(APP),
    )
    await both.end_slot()
    before = [version() for version in versions]
    await both.other.proxy.get()
    await both.news.refresh(now=True)
    assert [version() != old for version, old in zip(versions, before, strict=True)] == [
        False,
        True,
        True,
    ]
    before = [version() for version in versions]
    await both.other.end_slot()
    await both.news.refresh(now=True)
    assert [version() != old for version, old in zip(versions, before, strict=True)] == [
        True,
        True,
        False,
    ]
