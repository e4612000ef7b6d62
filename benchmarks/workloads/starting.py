"""Time from `0trust agent run` until a service can be used from outside."""

import asyncio
import time
from pathlib import Path
from typing import Final

from benchmarks.environment import Environment
from benchmarks.metrics import Metric, alone

_HOST: Final = "starter.localhost"


async def first_answer(environment: Environment, title: str) -> list[Metric]:
    """Measure the time from the command to the first 200; Caddy has the certificate already."""
    config = await asyncio.to_thread(
        environment.stack.prepare_agent, "starter", {_HOST: environment.backends.web}
    )
    await _start(environment, title, config)
    taken = [await _start(environment, title, config) for _ in range(environment.options.rounds)]
    return [alone(title, "seconds", "s", taken)]


async def _start(environment: Environment, title: str, config: Path) -> float:
    begun = time.monotonic()
    agent = await environment.stack.start_agent(environment.processes, config)
    try:
        await environment.wait_ready(title, environment.stack.through_caddy(_HOST))
        return time.monotonic() - begun
    finally:
        await environment.processes.stop(agent)
