"""Tests of the history of traffic, on and off."""

import pytest

from tests.unit.server.observed_proxy import ObservedProxy
from zerotrust.net.tasks import Tasks
from zerotrust.server.ops.traffic_history import TrafficHistory

pytestmark = pytest.mark.anyio

APP = ("home", "app")


async def test_it_remembers_while_it_is_on() -> None:
    proxy, tasks = ObservedProxy(), Tasks()
    proxy.ingress.observers = ()
    history = TrafficHistory(lambda: proxy.registry.sessions, proxy.ingress, tasks)
    await proxy.get()
    assert not history.on
    assert history.recent.count == 0
    history.turn(on=True)
    history.turn(on=True)
    assert history.on and len(tasks.running) == 1
    await proxy.get()
    assert history.recent.count_of(APP) == 1
    assert history.sampler.services == [APP]
    await proxy.open_websocket()
    history.turn(on=False)
    history.turn(on=False)
    proxy.transport.abort()
    await proxy.turn()
    assert not history.on
    assert proxy.ingress.observers == ()
    assert history.recent.count == 0, "it has forgotten all"
    assert not history.sampler.services
    await tasks.close()
