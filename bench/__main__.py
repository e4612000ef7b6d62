"""`python -m bench`: 0Trust behind Caddy against Caddy straight to the same backend, in turns, in one run.

    python -m bench [--rounds 5] [--seconds 4] [--only GET]

Prints each workload's rates and their ratio (median, and the range over the rounds).
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from tests.kits.bare_caddy import BareCaddy
from tests.kits.ports import free_port
from tests.kits.processes import Process, wait_port
from tests.kits.stack import Authority, Stack, service

WORKLOADS = {
    "1 KiB GET, 32 connections": ("get", "web.localhost", 32, 1024),
    "64 B WebSocket echo, 64 connections": ("echo", "ws.localhost", 64, 64),
    "16 KiB WebSocket echo, 64 connections": ("echo", "ws.localhost", 64, 16384),
}


async def load(what: str, port: int, name: str, connections: int, seconds: float, size: int) -> dict[str, float]:
    """One measurement, in a process of its own."""
    command = [sys.executable, "-m", "bench.load", what, "127.0.0.1", str(port), name]
    command += [str(connections), str(seconds), str(size)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    result: dict[str, float] = json.loads(output)
    return result


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, from the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def main(rounds: int, seconds: float, only: str) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="0trust-bench-")))
        port = free_port()
        backend = Process("backend", [sys.executable, "-m", "bench.backend", str(port)], log=folder / "backend.log")
        backend.start()
        stack.push_async_callback(backend.stop)
        await wait_port(port + 1, process=backend)
        direct = await stack.enter_async_context(BareCaddy(folder, {"web.localhost": port + 1, "ws.localhost": port}))
        services = [service("web.localhost", port + 1), service("ws.localhost", port)]
        ours = await stack.enter_async_context(
            Stack(folder / "stack", Authority(folder / "ca"), agents={"bench": services})
        )
        for host in ("web.localhost", "ws.localhost"):
            await ours.wait_published(host)
        pids = {"server": ours.server.pid, "agent": ours.agents["bench"].process.pid}
        for title, (what, name, connections, size) in WORKLOADS.items():
            if only not in title:
                continue
            ratios = []
            ourselves = []
            straight = []
            spent = dict.fromkeys(pids, 0.0)
            for _ in range(rounds):
                base = await load(what, direct.port, name, connections, seconds, size)
                before = {part: cpu_seconds(pid) for part, pid in pids.items()}
                mine = await load(what, ours.caddy.port, name, connections, seconds, size)
                for part, pid in pids.items():
                    spent[part] += cpu_seconds(pid) - before[part]
                ratios.append(mine["rate"] / base["rate"])
                ourselves.append(mine)
                straight.append(base)
            total = sum(one["rate"] * seconds for one in ourselves)
            print(f"{title}")
            print(
                f"  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                f"   {statistics.median(one['rate'] for one in ourselves):,.0f}/s"
                f" against {statistics.median(one['rate'] for one in straight):,.0f}/s"
                f"   p99 {statistics.median(one['p99'] for one in ourselves):.1f} ms"
                f" against {statistics.median(one['p99'] for one in straight):.1f} ms"
            )
            print("  CPU each: " + ", ".join(f"{part} {used / total * 1e6:.0f} µs" for part, used in spent.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", default="", help="workloads whose title has this in it")
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.seconds, options.only))
