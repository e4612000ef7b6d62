"""A tunnel in a WebSocket through Caddy, against a direct one; both behind Caddy, as users see."""

import asyncio
from functools import partial

from benchmarks.environment import KIB, Environment
from benchmarks.lab.stack import AGENT
from benchmarks.load.jobs import Job
from benchmarks.metrics import Metric, compare
from benchmarks.rounds import in_turns
from benchmarks.targets import OURS, SOCKET, WEB, Target
from benchmarks.workloads.bulk import bulk_size
from benchmarks.workloads.comparison import rates_of

_NAME = "by websocket"


async def cost(environment: Environment, title: str) -> list[Metric]:
    """Measure GET, echo and download."""
    stack = await environment.new_stack(_NAME)
    await stack.start_server(environment.processes)
    config = await asyncio.to_thread(
        stack.prepare_agent, AGENT, environment.backends.hosts, by_websocket=True
    )
    agent = await stack.start_agent(environment.processes, config)
    target = Target(name=_NAME, web=stack.through_caddy(WEB), socket=stack.through_caddy(SOCKET))
    try:
        await environment.wait_ready(_NAME, stack.through_caddy(WEB))
        await environment.wait_ready(_NAME, stack.through_caddy(SOCKET), is_socket=True)
        metrics = []
        for measure, unit, scale in (
            ("requests/s", "/s", 1.0),
            ("messages/s", "/s", 1.0),
            ("MB/s", "MB/s", 1e-6),
        ):
            found = await in_turns(
                environment.options.rounds,
                {
                    one.name: partial(
                        environment.run, f"{title}, {one.name}", _job(environment, measure, one)
                    )
                    for one in (environment.targets[OURS], target)
                },
            )
            ours, direct = (
                [rate * scale for rate in rates_of(found[name])] for name in (_NAME, OURS)
            )
            metrics.append(compare(title, measure, unit, ours=ours, baseline=direct))
        return metrics
    finally:
        await environment.processes.stop(agent)
        await environment.processes.stop(stack.server)


def _job(environment: Environment, measure: str, target: Target) -> Job:
    seconds = environment.options.seconds
    assert target.web is not None and target.socket is not None
    if measure == "requests/s":
        return Job(
            kind="get",
            endpoint=target.web,
            connections=32,
            seconds=seconds,
            size=KIB,
            path="/1k",
        )
    if measure == "messages/s":
        return Job(kind="echo", endpoint=target.socket, connections=64, seconds=seconds, size=64)
    size = bulk_size(environment)
    return Job(kind="download", endpoint=target.web, size=size, path=f"/bulk/{size}")
