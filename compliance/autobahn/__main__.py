"""Run the Autobahn WebSocket suite against an echo server and through the chain; compare.

    python -m compliance.autobahn [--cases '6.*,9.7.*'] [--bare] [--keep DIR]

The chain is the real Caddy, server, tunnel and agent as processes. 0Trust relays WebSockets as
bytes, so each case must end through the chain as it does without it; the exit status is 1 if one is
worse. `--bare` adds Caddy alone in front of the echo server: a case that is worse there too is not
a fault of 0Trust. An OK that becomes NON-STRICT is printed and does not count: 3.4, 4.1.5 and 4.2.5
ask whether an echo server that gets a good message and then a bad frame still answers the first,
which depends on whether both arrive in one segment. Behind a proxy they do more often.

The suite's own environment is made in `.cache/` at first use, by pip, with exact versions.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.backends import WsEcho
from tests.support.bare_caddy import BareCaddy
from tests.support.entrypoint import Entrypoint
from tests.support.stack import Authority, Stack, service

TOOL: Final = Path(__file__).with_name("autobahn_client.py")
CACHE: Final = Path(__file__).parents[2] / ".cache"
HOST: Final = "echo.localhost"

TIMED: Final = "1.*,2.*,3.*,4.*,5.*,6.*,7.*,10.*"
"""Cases with timeouts; they run one target at a time, to leave the CPU free."""
HEAVY: Final = "9.*,12.*,13.*"
"""CPU-bound cases; they run for both targets side by side."""
LIMITS: Final = {
    "origins": "same",
    "max_message": "64MiB",
    "messages": "1000000/s",
    "bytes": "10GB/s",
    "handshakes": "1000000/s",
    "max_per_client": 1000,
    "ping": "30s",
}
"""All limits are on, and set so high that no case reaches one: they must change nothing."""
COUNT: Final = 10
"""Messages in each case of 9.7, 9.8, 12 and 13, where the suite sends up to 1000."""
TIMEOUT: Final = 300.0

ALLOWED: Final = {"7.1.5"}
"""Cases that the echo server itself fails: its library closes with 1000 inside a fragment."""


@dataclass(frozen=True)
class Target:
    """A target of the suite: a way to the echo server, and its options for the tool."""

    name: str
    options: tuple[str, ...]


def direct(port: int) -> Target:
    return Target("direct", ("--url", f"direct=ws://127.0.0.1:{port}/"))


def through(name: str, entrypoint: Entrypoint, authority: Path) -> Target:
    url = f"{name}=wss://{HOST}:{entrypoint.port}/"
    return Target(
        name,
        ("--url", url, "--connect-to", f"127.0.0.1:{entrypoint.port}", "--cafile", str(authority)),
    )


class Suite:
    """The tool's runs, and the one index that they are judged by."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index: dict[str, dict[str, Any]] = {}

    async def run(self, target: Target, cases: str) -> None:
        out = self._folder / f"{target.name}-{len(list(self._folder.iterdir()))}"
        status = await self._tool(
            *target.options, "--cases", cases, "--count", str(COUNT), "--out", str(out)
        )
        if status > 1:
            sys.exit(
                f"autobahn: the run of {target.name} is not to be trusted (status {status});"
                f" reports: {out}"
            )
        found = json.loads((out / "index.json").read_text())
        self._index.setdefault(target.name, {}).update(found[target.name])

    async def is_worse(self, name: str) -> bool:
        """True where a case comes out worse than direct; the tool prints which."""
        (self._folder / "index.json").write_text(json.dumps(self._index))
        status = await self._tool("--compare", "direct", name, "--out", str(self._folder))
        if status > 1:
            sys.exit(f"autobahn: {name} could not be compared (status {status})")
        return status == 1

    def failed(self, name: str) -> set[str]:
        """The cases that failed."""
        bad = {"FAILED", "WRONG CODE", "UNCLEAN", "UNIMPLEMENTED"}
        return {
            case
            for case, result in self._index[name].items()
            if result["behavior"] in bad or result["behaviorClose"] in bad
        }

    def count(self, name: str) -> int:
        """Return the number of cases that ran."""
        return len(self._index[name])

    async def _tool(self, *options: str) -> int:
        command = (
            sys.executable,
            str(TOOL),
            "--venv",
            str(CACHE / "autobahn"),
            "--details",
            "failed",
            *options,
        )
        process = await asyncio.create_subprocess_exec(*command)
        try:
            async with asyncio.timeout(TIMEOUT):
                return await process.wait()
        except TimeoutError:
            sys.exit(f"autobahn: not done after {TIMEOUT:g} s: {' '.join(options)}")
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def compare(suite: Suite, targets: list[Target], *, cases: str | None) -> bool:
    """Run everything; True where the chain is as good as no chain."""
    if cases:
        for target in targets:
            await suite.run(target, cases)
    else:
        for target in targets:
            await suite.run(target, TIMED)
        async with asyncio.TaskGroup() as group:
            for target in targets:
                group.create_task(suite.run(target, HEAVY))
    worse = [target.name for target in targets[1:] if await suite.is_worse(target.name)]
    broken = suite.failed("direct") - ALLOWED
    if broken:
        print(
            f"autobahn: the echo server itself fails {', '.join(sorted(broken))}: nothing can be"
            " compared to it"
        )
    return not broken and "chain" not in worse


async def main(folder: Path, options: argparse.Namespace) -> int:
    begun_at = time.monotonic()
    os.environ["WEBSOCKETS_MAX_FRAGMENTS"] = str(
        1 << 20
    )  # the suite sends a message in more than the 4096 of today
    async with AsyncExitStack() as stack:
        echo = await stack.enter_async_context(WsEcho(folder))
        agents = {"agent-1": [service(HOST, echo.port, websocket=LIMITS)]}
        chain = await stack.enter_async_context(
            Stack(folder / "stack", Authority(folder / "ca"), agents=agents)
        )
        targets = [direct(echo.port), through("chain", chain.caddy, chain.caddy_root)]
        if options.bare:
            (folder / "bare").mkdir()
            bare = await stack.enter_async_context(BareCaddy(folder / "bare", {HOST: echo.port}))
            assert bare.caddy.root is not None
            targets.append(through("bare", bare.caddy, bare.caddy.root))
        reports = folder / "reports"
        reports.mkdir()
        suite = Suite(reports)
        good = await compare(suite, targets, cases=options.cases)
    verdict = (
        "as good through the chain as without it"
        if good
        else "NOT as good through the chain; see above"
    )
    print(f"autobahn: {suite.count('chain')} cases, {verdict}, {time.monotonic() - begun_at:.0f} s")
    return 0 if good else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.autobahn", description="Autobahn through 0Trust."
    )
    parser.add_argument("--cases", help="only these, for example '6.*,9.7.*'")
    parser.add_argument("--bare", action="store_true", help="also through Caddy alone")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep logs and reports in this new folder"
    )
    return parser.parse_args()


if __name__ == "__main__":
    chosen = parse()
    if chosen.keep:
        chosen.keep.mkdir(parents=True)
        sys.exit(asyncio.run(main(chosen.keep.resolve(), chosen)))
    with tempfile.TemporaryDirectory(prefix="autobahn-") as temporary:
        sys.exit(asyncio.run(main(Path(temporary), chosen)))
