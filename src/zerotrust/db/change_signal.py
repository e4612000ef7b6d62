"""Signal that wakes the readers of a database when another process has committed a change."""

import asyncio
import contextlib


class ChangeSignal:
    """Counts notifications, and wakes all readers that wait for the next one.

    A notification says no more than "look": however many come between two looks, a reader looks
    once. It is used in the loop's thread alone.

    Attributes:
        count: notifications so far.
        proven: notifications are known to arrive, so that readers poll seldom.
    """

    def __init__(self) -> None:
        self.count = 0
        self.proven = False
        self._next = asyncio.Event()

    def send(self) -> None:
        """Wake all readers."""
        self.count += 1
        self._next.set()
        self._next = asyncio.Event()

    def prove(self, proven: bool) -> None:
        """Note that notifications arrive, or no longer do.

        It wakes all readers: some may have been lost until now.
        """
        if proven is not self.proven:
            self.proven = proven
            self.send()

    async def wait(self, seen: int, *, within: float) -> None:
        """Return when more notifications have come than a reader has seen, or after a time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self.count == seen:
                    await self._next.wait()
