"""Time from `0trust agent run` until a service can be used from outside."""

import asyncio
import time
from pathlib import Path
from typing import Final

from benchmarks.environment import Rig
from benchmarks.metrics import Figure, alone

_HOST: Final = "starter.localhost"


async def first_answer(rig: Rig, title: str) -> list[Figure]:
    """From the command to the first 200 through Caddy, with a server that runs and a certificate
    that Caddy has."""
    config = await asyncio.to_thread(rig.stack.prepare_agent, "starter", {_HOST: rig.backends.web})
    await _start(rig, title, config)
    taken = [await _start(rig, title, config) for _ in range(rig.options.rounds)]
    return [alone(title, "seconds", "s", taken)]


async def _start(rig: Rig, title: str, config: Path) -> float:
    begun = time.monotonic()
    agent = await rig.stack.start_agent(rig.processes, config)
    try:
        await rig.wait_ready(title, rig.stack.through_caddy(_HOST))
        return time.monotonic() - begun
    finally:
        await rig.processes.stop(agent)
