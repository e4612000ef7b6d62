"""Strangers: requests at a fixed rate, each with another cookie that no server knows.

A thread with plain sockets sends them, a few at a time: the timers of an event loop are as coarse
as a millisecond, and ten requests at once make the others wait for all ten.
"""

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from benchmarks.load.jobs import Endpoint, Job

_TICK: Final = 0.0003
"""Seconds between two looks for requests that are due."""
_MOST_AT_ONCE: Final = 8
"""Requests in one segment. What could not be sent in time is left out, and not sent as a burst."""
_MOST_UNANSWERED: Final = 64
"""Requests on one connection without an answer: a server that is slower gets no more."""
_ANSWERS: Final = 65536
"""Bytes read at once."""


class Stranger:
    """One connection that sends requests without waiting for the answers.

    Attributes:
        refused: answers so far.
    """

    def __init__(self, job: Job, connected: socket.socket, numbers: Iterator[int]) -> None:
        self.refused = 0
        self._socket = connected
        self._sent = 0
        self._refusal = b"HTTP/1.1 %d " % job.status
        self._numbers = numbers
        self._tail = b""
        self._start = (
            f"GET {job.path} HTTP/1.1\r\nHost: {job.endpoint.host}\r\n"
            + "".join(f"{field}\r\n" for field in job.fields)
            + "Cookie: __Host-0trust="
        ).encode()

    def send(self, count: int) -> None:
        """Take the answers that are there, and send some requests, unless too many have none.

        Raises:
            OSError: the server has closed the connection.
        """
        with suppress(BlockingIOError):
            self._take(self._socket.recv(_ANSWERS, socket.MSG_DONTWAIT))
        if self._sent - self.refused + count <= _MOST_UNANSWERED:
            self._sent += count
            self._socket.sendall(
                b"".join(
                    b"%b%042dA\r\n\r\n" % (self._start, next(self._numbers)) for _ in range(count)
                )
            )

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _take(self, data: bytes) -> None:
        if not data:
            raise ConnectionError("the server has closed the connection of a stranger")
        data = self._tail + data
        self.refused += data.count(self._refusal)
        self._tail = data[1 - len(self._refusal) :]


class Strangers:
    """All connections of a job. They send from `start` until the process ends.

    Attributes:
        failure: the reason why they send no more; None while they do.
    """

    def __init__(self, job: Job) -> None:
        assert job.rate is not None
        numbers = itertools.count()
        self.failure: OSError | None = None
        self._rate = job.rate
        self._connections = [
            Stranger(job, _connected(job.endpoint), numbers) for _ in range(job.connections)
        ]

    @property
    def refused(self) -> int:
        """Answers so far."""
        return sum(connection.refused for connection in self._connections)

    def start(self) -> None:
        """Send requests at the job's rate."""
        threading.Thread(target=self._run, name="strangers", daemon=True).start()

    def _run(self) -> None:
        if hasattr(os, "SCHED_OTHER"):
            # This thread alone: it wakes on time, as packets from a network come on time.
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        try:
            self._send()
        except OSError as error:
            for connection in self._connections:
                connection.close()
            self.failure = error

    def _send(self) -> None:
        begun, over = time.monotonic(), 0
        for connection in itertools.cycle(self._connections):
            due = int((time.monotonic() - begun) * self._rate)
            if due > over:
                connection.send(min(due - over, _MOST_AT_ONCE))
                over = due
            time.sleep(_TICK)


def _connected(endpoint: Endpoint) -> socket.socket:
    if not endpoint.path:
        return socket.create_connection((endpoint.address, endpoint.port))
    made = socket.socket(socket.AF_UNIX)
    made.connect(endpoint.path)
    return made
