"""Dashboards: what open ones cost the services."""

import asyncio
from typing import Any, Final

import psutil

from benchmarks.environment import Environment
from benchmarks.lab.administrator import GROUP, administrator_cookie
from benchmarks.lab.stack import AGENT
from benchmarks.load.jobs import Job
from benchmarks.metrics import Metric, compare
from benchmarks.rounds import in_turns

ADMIN: Final = "admin.localhost"
HOSTS: Final = tuple(f"echo{number}.localhost" for number in range(10))
WEBSOCKETS: Final = 500
DASHBOARDS: Final = 5
PAGES: Final = (
    "/",
    "/connections",
    f"/requests?agent={AGENT}&service={HOSTS[0]}",
    "/requests",
    "/connections?host=" + HOSTS[0],
)
_ACCESS: Final[dict[str, Any]] = {
    "auth_host": "auth.localhost",
    "admin_host": ADMIN,
    "admins": [{"group": GROUP}],
    "default": "public",
    "rules": [],
}
_RATE: Final = 1000.0
_COME_TO_SPEED: Final = 6.0
"""Seconds until each page has fetched something: the longest interval between two looks is 5 s."""


async def beside_dashboards(environment: Environment, title: str) -> list[Metric]:
    """Measure echo at ten services with 500 WebSockets, with and without five open dashboards."""
    stack = await environment.new_stack("dashboards", sections={"access": _ACCESS})
    cookie = await administrator_cookie(stack.folder / "state", _ACCESS)
    await stack.start_server(environment.processes)
    try:
        hosts = dict.fromkeys(HOSTS, environment.backends.socket)
        config = await asyncio.to_thread(stack.prepare_agent, AGENT, hosts)
        agent = await stack.start_agent(environment.processes, config)
        try:
            endpoint = stack.through_caddy(HOSTS[0])
            for host in HOSTS:
                await environment.wait_ready(title, stack.through_caddy(host), is_socket=True)
            job = Job(
                kind="echo",
                endpoint=endpoint,
                hosts=HOSTS,
                connections=WEBSOCKETS,
                seconds=environment.options.seconds,
                rate=_RATE,
                size=64,
            )
            dashboards = Job(
                kind="dashboards",
                endpoint=stack.through_caddy(ADMIN),
                connections=DASHBOARDS,
                seconds=_COME_TO_SPEED,
                paths=PAGES,
                fields=(cookie,),
            )
            return await _with_and_without(environment, title, job, dashboards, stack.server.pid)
        finally:
            await environment.processes.stop(agent)
    finally:
        await environment.processes.stop(stack.server)


async def _with_and_without(
    environment: Environment, title: str, echo: Job, dashboards: Job, server: int
) -> list[Metric]:
    """Return the p99 of echo, and the CPU time of the server, in turns."""

    async def alone() -> tuple[float, float]:
        before = psutil.Process(server).cpu_times()
        p99 = (await environment.run(title, echo)).p99
        after = psutil.Process(server).cpu_times()
        return p99, sum(after[:2]) - sum(before[:2])

    async def beside() -> tuple[float, float]:
        async with environment.another_generator(gives_way=True) as generator:
            await generator.run(dashboards, title)
            return await alone()

    found = await in_turns(environment.options.rounds, {"beside": beside, "alone": alone})
    return [
        compare(
            title,
            "p99",
            "ms",
            ours=[p99 for p99, _ in found["beside"]],
            baseline=[p99 for p99, _ in found["alone"]],
            higher_is_better=False,
        ),
        compare(
            title,
            "CPU of the server",
            "s",
            ours=[cpu for _, cpu in found["beside"]],
            baseline=[cpu for _, cpu in found["alone"]],
            higher_is_better=False,
        ),
    ]
