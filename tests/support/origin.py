"""An HTTP/1.1 backend, correct or faulty: `python -m tests.support.origin --port N`.

Its answers are in `routes.py`; it echoes any other target as JSON. The test itself asks `/stats`
for counters and, with `--record`, `/log` for each request, byte for byte.
"""

import argparse
import asyncio
import base64
import signal

import uvloop

from tests.support.exchange import Exchange, Request, Stats
from tests.support.origin_connection import OriginConnection, PeerClosed
from tests.support.routes import ROUTES, echo


class Origin:
    """The server: one `serve` task per connection."""

    def __init__(self, *, record: bool) -> None:
        self.stats = Stats()
        self.log: list[dict[str, object]] = []
        self._record = record
        self._tasks: set[asyncio.Task[None]] = set()

    def accepted(self, wire: OriginConnection) -> None:
        task = asyncio.create_task(self.serve(wire))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def serve(self, wire: OriginConnection) -> None:
        self.stats.connections += 1
        self.stats.open += 1
        connection = self.stats.connections
        try:
            while not wire.eof or wire.buffer:
                if not wire.buffer and not await wire.more():
                    break
                request = Request.parse(await wire.read_until(b"\r\n\r\n"))
                if not await self.answer(Exchange(wire, request, self.stats), connection):
                    break
        except PeerClosed:
            pass
        finally:
            if self._record and wire.buffer:
                self.log.append(
                    {"connection": connection, "rest": base64.b64encode(wire.buffer).decode()}
                )
            wire.close()
            self.stats.open -= 1

    async def answer(self, exchange: "Exchange", connection: int) -> bool:
        """Answer one request; return True if the connection can be used again."""
        request = exchange.request
        name = request.route
        if name in ("stats", "log"):
            await self.tell(exchange, name)
            return False
        self.stats.requests += 1
        self.stats.served[name] = self.stats.served.get(name, 0) + 1
        entry: dict[str, object] = {
            "connection": connection,
            "raw": base64.b64encode(request.raw).decode(),
            "method": request.method,
            "target": request.target,
            "fields": request.fields,
            "doubts": request.doubts(),
        }
        if self._record:
            self.log.append(entry)
        try:
            await ROUTES.get(name, echo)(exchange)
            if exchange.reusable and not exchange.body_is_read:
                await exchange.skip_body()
        except PeerClosed:
            self.stats.aborted += 1
            raise
        finally:
            entry["complete"] = exchange.body_is_complete
        return exchange.reusable

    async def tell(self, exchange: Exchange, name: str) -> None:
        """Answer the test's own request for counters or log; `?clear` starts a new log."""
        await exchange.json(200, self.log if name == "log" else vars(self.stats))
        if "clear" in exchange.request.target:
            self.log.clear()


async def run(address: str, port: int, record: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    origin = Origin(record=record)
    server = await loop.create_server(
        lambda: OriginConnection(origin.accepted), address, port, backlog=1024
    )
    print(f"origin listens on {address}:{port}", flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A backend for tests.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--record", action="store_true", help="keep all requests, for /log")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(arguments.address, arguments.port, arguments.record))


if __name__ == "__main__":
    main()
