"""The rig: backends, the ways to them and a load generator, all running while it is entered."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from benchmarks.generator import Generator
from benchmarks.lab import nginx, openssh
from benchmarks.lab.bare_caddy import BareCaddy
from benchmarks.lab.loopback import claim, free_port, wait_port
from benchmarks.lab.processes import Child, Processes, python
from benchmarks.lab.stack import AGENT, Stack
from benchmarks.load.jobs import Endpoint, Job, Outcome
from benchmarks.options import Options
from benchmarks.targets import ALONE, BASELINE, OURS, SOCKET, SSH, STREAM, WEB, WITHOUT_CADDY, Way
from zerotrust.errors import BenchError
from zerotrust.net.loop import raise_descriptor_limit

KIB: Final = 1024
READY_TIMEOUT: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Backends:
    """The ports of the backends."""

    web: int
    socket: int
    stream: int

    @property
    def hosts(self) -> dict[str, int]:
        """The port of each host name."""
        return {WEB: self.web, STREAM: self.stream, SOCKET: self.socket}


class Rig:
    """Owns every process of a run."""

    def __init__(self, options: Options, note: Callable[[str], None]) -> None:
        self.options = options
        self.note = note
        self.descriptors = raise_descriptor_limit()
        self.ways: dict[str, Way] = {}
        self._exit = AsyncExitStack()
        self._generators = 0
        self.folder: Path
        self.processes: Processes
        self.backends: Backends
        self.backend_name = "own origin"
        self.stack: Stack
        self.agent: Child
        self._generator: Generator

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    @property
    def watched(self) -> dict[str, int]:
        """The processes of ours whose CPU is counted."""
        return {"server": self.stack.server.pid, "agent": self.agent.pid}

    async def run(self, what: str, job: Job) -> Outcome:
        """Have a job done by the load generator.

        Raises:
            BenchError: it could not be done.
        """
        return await self._generator.run(job, what)

    @contextlib.asynccontextmanager
    async def another_generator(self) -> AsyncIterator[Generator]:
        """One more, for work beside other work; what it holds open is closed at the end."""
        self._generators += 1
        generator = Generator(f"generator {self._generators}", self.processes)
        await generator.start()
        try:
            yield generator
        finally:
            await generator.stop()

    async def wait_ready(
        self,
        what: str,
        endpoint: Endpoint,
        *,
        hosts: tuple[str, ...] = (),
        seconds: float = READY_TIMEOUT,
        is_socket: bool = False,
    ) -> None:
        """Return when each of the hosts answers a request or, of a WebSocket's endpoint, an
        upgrade.

        Raises:
            BenchError: they do not, for so many seconds.
        """
        size = 0 if is_socket else KIB
        await self.run(
            what,
            Job(
                kind="probe", endpoint=endpoint, size=size, path="/1k", hosts=hosts, seconds=seconds
            ),
        )

    async def new_stack(self, name: str, *, with_caddy: bool = True) -> Stack:
        """A further server, prepared and not started."""
        stack = Stack(name, self.folder, with_caddy=with_caddy)
        await asyncio.to_thread(stack.prepare)
        return stack

    async def _start(self) -> None:
        self.folder = Path(
            self._exit.enter_context(tempfile.TemporaryDirectory(prefix="0trust-bench-"))
        )
        self.processes = await self._exit.enter_async_context(Processes(self.folder))
        self._generator = await self._exit.enter_async_context(self.another_generator())
        await self._start_backends()
        bare = BareCaddy("bare caddy", self.folder, self.backends.hosts)
        self.stack = await self.new_stack("ours")
        config = await asyncio.to_thread(self.stack.prepare_agent, AGENT, self.backends.hosts)
        async with asyncio.TaskGroup() as group:
            group.create_task(bare.start(self.processes))
            group.create_task(self.stack.start_server(self.processes))
        self.agent = await self.stack.start_agent(self.processes, config)
        for name, endpoint in (
            (BASELINE, bare.endpoint),
            (OURS, self.stack.through_caddy),
            (WITHOUT_CADDY, self.stack.without_caddy),
            (ALONE, self._alone),
        ):
            self.ways[name] = Way(
                name=name, web=endpoint(WEB), stream=endpoint(STREAM), socket=endpoint(SOCKET)
            )
        if not self.options.quick:
            await self._start_ssh()
        for peer in self.options.peers:
            self.ways[peer.name] = Way(name=peer.name, web=peer.web, socket=peer.socket)
        await self._wait_ways()

    async def _start_backends(self) -> None:
        first = self.options.backend
        ports = [free_port() if first is None else claim(first + number) for number in range(3)]
        web, socket, stream = ports
        program = nginx.locate()
        own = [socket, stream] if program else [socket, stream, web]
        origin = await self.processes.start(
            "origin", python("benchmarks.lab.origin", *map(str, own))
        )
        for port in own:
            await wait_port(port, origin)
        if program is not None:
            self.backend_name = "nginx"
            config = nginx.prepare(self.folder, web, descriptors=self.descriptors)
            child = await self.processes.start("nginx", [program, "-c", config, "-p", self.folder])
            await wait_port(web, child)
        self.backends = Backends(web=web, socket=socket, stream=stream)

    async def _start_ssh(self) -> None:
        """OpenSSH is a machine's own, so nothing depends on it."""
        try:
            ports = await openssh.start(self.processes, self.backends.hosts)
        except BenchError as error:
            self.note(f"{SSH}: left out: {error}")
            return
        caddy = BareCaddy("caddy before ssh", self.folder, ports)
        await caddy.start(self.processes)
        self.ways[SSH] = Way(
            name=SSH,
            web=caddy.endpoint(WEB),
            stream=caddy.endpoint(STREAM),
            socket=caddy.endpoint(SOCKET),
        )

    async def _wait_ways(self) -> None:
        """Everything answers, and Caddy has its certificates."""
        for way in self.ways.values():
            for endpoint in (way.web, way.stream):
                if endpoint is not None:
                    await self.wait_ready(way.name, endpoint)
            if way.socket is not None:
                await self.wait_ready(way.name, way.socket, is_socket=True)

    def _alone(self, host: str) -> Endpoint:
        return Endpoint(host=host, port=self.backends.hosts[host])
