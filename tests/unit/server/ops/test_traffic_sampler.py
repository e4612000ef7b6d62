"""Tests of the sampler of traffic, with requests through an ingress."""

import asyncio
import math
from typing import Any

import pytest

from tests.unit.server.observed_proxy import HELLO, ObservedProxy
from zerotrust.net import background_work
from zerotrust.server.ops import traffic_sampler
from zerotrust.telemetry.hour_ring import SLOT
from zerotrust.telemetry.service_traffic import TrafficHour

pytestmark = pytest.mark.anyio

APP = ("home", "app")


async def next_slot(proxy: ObservedProxy) -> TrafficHour:
    """Let the slot end; return the hour of the service."""
    proxy.now += SLOT
    await proxy.sampler.look()
    hour = proxy.sampler.of_service(APP)
    assert hour is not None
    return hour


async def test_finished_requests_are_counted() -> None:
    proxy = ObservedProxy()
    await proxy.get()
    await proxy.get(status=404)
    await proxy.get(status=503, body=b"")
    before = proxy.sampler.slot
    hour = await next_slot(proxy)
    assert proxy.sampler.slot == before + 1
    assert hour.requests[-1] * SLOT == pytest.approx(3)
    assert hour.errors[-1] == pytest.approx(1 / 3)
    assert hour.sent[-1] * SLOT == pytest.approx(10)
    assert 0 < hour.p50[-1] <= hour.p99[-1] < 5
    assert proxy.sampler.total().requests[-1] == hour.requests[-1]
    hour = await next_slot(proxy)
    assert hour.requests[-1] == 0
    assert math.isnan(hour.p99[-1])


async def test_requests_of_strangers_count_in_the_total_alone() -> None:
    proxy = ObservedProxy()
    await proxy.ask("GET /")
    proxy.now += SLOT
    await proxy.sampler.look()
    assert proxy.sampler.of_service(APP) is None
    assert proxy.sampler.total().requests[-1] * SLOT == pytest.approx(1)


async def test_bytes_of_a_websocket_count_once_while_it_runs_and_at_its_end() -> None:
    proxy = ObservedProxy()
    await proxy.open_websocket()
    await proxy.send(HELLO)
    await proxy.sampler.look()
    await proxy.send(HELLO)
    first = await next_slot(proxy)
    assert proxy.sampler.open == {APP: 1}
    assert first.websockets[-1] == 1
    assert first.sent[-1] * SLOT == pytest.approx(14)
    await proxy.send(HELLO)
    proxy.connection.data_received(b"\x81\x80\x00\x00\x00\x00")
    proxy.transport.abort()
    await proxy.turn()
    second = await next_slot(proxy)
    assert second.sent[-1] * SLOT == pytest.approx(7)
    assert second.received[-1] * SLOT == pytest.approx(6)
    assert second.requests[-1] * SLOT == pytest.approx(1)
    assert proxy.sampler.open == {}
    assert (await next_slot(proxy)).sent[-1] == 0


async def test_a_request_that_is_not_observed_is_not_counted() -> None:
    proxy = ObservedProxy()
    observers, proxy.ingress.observers = proxy.ingress.observers, ()
    await proxy.open_websocket()
    proxy.ingress.observers = observers
    await proxy.send(HELLO)
    await proxy.sampler.look()
    assert proxy.sampler.open == {}


async def test_round_trips_of_connected_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = ObservedProxy()
    proxy.pair.server.session.keepalive.round_trip = 0.02
    await proxy.get()
    await next_slot(proxy)
    assert proxy.sampler.round_trips("home")[-1] == pytest.approx(0.02)
    assert math.isnan(proxy.sampler.round_trips("other")[-1])


async def test_the_loop_is_not_held_by_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_work, "SLICE", 0.0)
    monkeypatch.setattr(traffic_sampler, "CLOCK_EVERY", 1)
    proxy = ObservedProxy()
    await proxy.open_websocket()
    await proxy.open_websocket()
    looks: list[Any] = []
    looking = asyncio.create_task(proxy.sampler.look())
    while not looking.done():
        looks.append(None)
        await asyncio.sleep(0)
    assert len(looks) >= 3
    assert proxy.sampler.open == {APP: 2}


async def test_it_looks_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic_sampler, "INTERVAL", 0.01)
    proxy = ObservedProxy()
    await proxy.open_websocket()
    running = asyncio.create_task(proxy.sampler.run())
    async with asyncio.timeout(5):
        while not proxy.sampler.open:
            await asyncio.sleep(0)
    running.cancel()
    assert proxy.sampler.uncounted == 0
