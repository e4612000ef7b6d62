"""News of the other workers, asked for once a second at most, for all open pages together."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from zerotrust.model.admin import NoParameters
from zerotrust.model.worker_messages import WorkerNews
from zerotrust.server.ops.worker_endpoints import NEWS
from zerotrust.server.ops.worker_peers import WorkerPeers

MAX_AGE: Final = 0.9
"""Seconds for which news are used."""


class NewsReader:
    """Asks the other workers for news.

    Attributes:
        news: what they answered.
        missing: number of workers that did not answer.
    """

    def __init__(self, peers: WorkerPeers, *, clock: Callable[[], float] = monotonic) -> None:
        self.news: list[WorkerNews] = []
        self.missing = 0
        self._peers = peers
        self._clock = clock
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def refresh(self, *, now: bool = False) -> None:
        """Ask, if the news are old.

        Args:
            now: ask in any case, because the caller has just changed something.
        """
        async with self._lock:
            if now or self._clock() - self._read_at >= MAX_AGE:
                self.news = await self._peers.get(NEWS, WorkerNews, NoParameters())
                self.missing = self._peers.count - len(self.news)
                self._read_at = self._clock()
