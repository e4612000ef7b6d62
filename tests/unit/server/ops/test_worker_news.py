"""Tests of the news of other workers: one question a second for all pages."""

import asyncio
from typing import cast

import pytest

from zerotrust.model.worker_messages import WorkerNews
from zerotrust.server.ops.worker_news import NewsReader
from zerotrust.server.ops.worker_peers import WorkerPeers

pytestmark = pytest.mark.anyio

NEWS = WorkerNews(slot=1, changes=0, agents="", streams=0, services=[], captures=[])


class Peers:
    """Two other workers, of which some answer."""

    count = 2

    def __init__(self) -> None:
        self.asked = 0
        self.answering = 2

    async def get(self, *_asked: object) -> list[WorkerNews]:
        self.asked += 1
        await asyncio.sleep(0)
        return [NEWS] * self.answering


async def test_all_pages_together_ask_once_a_second() -> None:
    peers, now = Peers(), 0.0
    reader = NewsReader(cast("WorkerPeers", peers), clock=lambda: now)
    await asyncio.gather(*(reader.refresh() for _ in range(5)))
    assert (peers.asked, len(reader.news), reader.missing) == (1, 2, 0)
    now, peers.answering = 1.0, 1
    await asyncio.gather(*(reader.refresh() for _ in range(5)))
    assert (peers.asked, reader.missing) == (2, 1)
    await reader.refresh(now=True)
    assert peers.asked == 3
