"""Many agents in one process: `python -m benchmarks.lab.fleet FILE…`, one file per agent.

They are the product's own agents, so their dialing and backoff are those of users.
"""

import asyncio
import datetime
import json
import sys
from pathlib import Path

from benchmarks.lab.stack import Stack
from zerotrust.agent.app import Agent
from zerotrust.model.agent import AgentConfig
from zerotrust.net.loop import run
from zerotrust.net.tasks import Tasks
from zerotrust.pki import ca_directory, csr, keys
from zerotrust.telemetry import logs


def prepare(stack: Stack, count: int, port: int) -> dict[str, Path]:
    """Issue certificates for `count` agents; return the configuration file by host name."""
    authority, now = (
        ca_directory.load_authority(stack.authority),
        datetime.datetime.now(datetime.UTC),
    )
    found = {}
    for number in range(count):
        name = f"agent-{number}"
        host = f"{name}.localhost"
        asked = csr.create()
        credential = authority.issue_agent(name, asked.pem, datetime.timedelta(days=1), now)
        issued = ca_directory.CaPaths(
            certificate=stack.folder / f"{name}.crt", key=stack.folder / f"{name}.key"
        )
        # pki.ca_directory would sync each file to the disk; these are temporary.
        issued.certificate.write_bytes(credential.chain_pem)
        issued.key.write_bytes(keys.to_pem(asked.key))
        found[host] = stack.folder / f"{name}.json"
        found[host].write_text(json.dumps(stack.agent_config(name, {host: port}, issued)))
    return found


async def serve(paths: list[Path]) -> None:
    """Run the agents until cancelled."""
    tasks = Tasks()
    try:
        configs = [AgentConfig.model_validate_json(path.read_text()) for path in paths]
        logs.configure(configs[0].logging)
        agents = [Agent(config, tasks) for config in configs]
        for agent in agents:
            tasks.spawn(agent.run(), "agent")
        await asyncio.Event().wait()
    finally:
        await tasks.close()


if __name__ == "__main__":
    run(serve([Path(name) for name in sys.argv[1:]]))
