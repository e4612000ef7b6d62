"""Environment of a run: backends, targets and a load generator."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.generator import Generator
from benchmarks.lab import nginx, peers
from benchmarks.lab.bare_caddy import BareCaddy
from benchmarks.lab.loopback import claim, free_port, wait_port
from benchmarks.lab.peers import PeerProgram
from benchmarks.lab.processes import Child, Processes, python
from benchmarks.lab.stack import AGENT, Stack
from benchmarks.load.jobs import Endpoint, Job, Outcome
from benchmarks.options import Options
from benchmarks.targets import (
    ALONE,
    BASELINE,
    OURS,
    SOCKET,
    STREAM,
    WEB,
    WITHOUT_CADDY,
    Target,
)
from zerotrust.errors import BenchError
from zerotrust.net.loop import raise_descriptor_limit

KIB: Final = 1024
READY_TIMEOUT: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Backends:
    """Ports of the backends."""

    web: int
    socket: int
    stream: int

    @property
    def hosts(self) -> dict[str, int]:
        """The port of each host name."""
        return {WEB: self.web, STREAM: self.stream, SOCKET: self.socket}


class Environment:
    """All processes of a run; they run while the context is entered."""

    def __init__(self, options: Options, note: Callable[[str], None]) -> None:
        self.options = options
        self.note = note
        self.descriptors = raise_descriptor_limit()
        self.targets: dict[str, Target] = {}
        self._exit = AsyncExitStack()
        self._generators = 0
        self.folder: Path
        self.processes: Processes
        self.backends: Backends
        self.backend_name = "own origin"
        self.stack: Stack
        self.agent: Child
        self.bare_caddy: BareCaddy
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
        """Process ids of server and agent, whose CPU time is measured."""
        return {"server": self.stack.server.pid, "agent": self.agent.pid}

    async def run(self, what: str, job: Job) -> Outcome:
        """Run a job on the load generator.

        Raises:
            BenchError: the job failed.
        """
        return await self._generator.run(job, what)

    @contextlib.asynccontextmanager
    async def another_generator(self, *, gives_way: bool = False) -> AsyncIterator[Generator]:
        """Start another load generator, for background load that ends with the context.

        Args:
            gives_way: as in `Generator`.
        """
        self._generators += 1
        generator = Generator(f"generator {self._generators}", self.processes, gives_way=gives_way)
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
        fields: tuple[str, ...] = (),
    ) -> None:
        """Wait until each host answers a request or, at a WebSocket endpoint, an upgrade.

        Raises:
            BenchError: a host did not answer within `seconds`.
        """
        size = 0 if is_socket else KIB
        await self.run(
            what,
            Job(
                kind="probe",
                endpoint=endpoint,
                size=size,
                path="/1k",
                hosts=hosts,
                seconds=seconds,
                fields=fields,
            ),
        )

    async def new_stack(
        self, name: str, *, with_caddy: bool = True, sections: Mapping[str, Any] | None = None
    ) -> Stack:
        """Prepare another server, without starting it; `sections` are added to its file."""
        stack = Stack(name, self.folder, with_caddy=with_caddy, sections=sections)
        await asyncio.to_thread(stack.prepare)
        return stack

    async def _start(self) -> None:
        self.folder = Path(
            self._exit.enter_context(tempfile.TemporaryDirectory(prefix="0trust-bench-"))
        )
        self.processes = await self._exit.enter_async_context(Processes(self.folder))
        self._generator = await self._exit.enter_async_context(self.another_generator())
        await self._start_backends()
        bare = self.bare_caddy = BareCaddy("bare caddy", self.folder, self.backends.hosts)
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
            self.targets[name] = Target(
                name=name, web=endpoint(WEB), stream=endpoint(STREAM), socket=endpoint(SOCKET)
            )
        programs = [] if self.options.quick else [peers.SSH]
        for program in [*programs, *(peers.PEERS if self.options.with_peers else ())]:
            await self._start_peer(program)
        for peer in self.options.peers:
            self.targets[peer.name] = Target(name=peer.name, web=peer.web, socket=peer.socket)
        await self._wait_targets()

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

    async def _start_peer(self, program: PeerProgram) -> None:
        """Add another tunnel behind Caddy as a target if it is installed and works."""
        try:
            name, ports = await peers.start(program, self.processes, self.backends.hosts)
        except BenchError as error:
            self.note(f"{program.name}: left out: {error}")
            return
        caddy = BareCaddy(f"caddy before {program.name}", self.folder, ports)
        await caddy.start(self.processes)
        target = Target(
            name=f"{name} behind Caddy",
            web=caddy.endpoint(WEB),
            stream=caddy.endpoint(STREAM),
            socket=caddy.endpoint(SOCKET),
        )
        self.targets[target.name] = target

    async def _wait_targets(self) -> None:
        """Wait until all targets answer and Caddy has its certificates."""
        for target in self.targets.values():
            for endpoint in (target.web, target.stream):
                if endpoint is not None:
                    await self.wait_ready(target.name, endpoint)
            if target.socket is not None:
                await self.wait_ready(target.name, target.socket, is_socket=True)

    def _alone(self, host: str) -> Endpoint:
        return Endpoint(host=host, port=self.backends.hosts[host])
