"""A running program's configuration file, and the ways in which tools change files."""

import asyncio
import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support.processes import Process
from tests.support.waiting import eventually

RELOADED = "configuration reloaded"
REFUSED = "configuration not reloaded, the last good one stays"
NO_CHANGE = '"changes": "nothing"'
PARTLY = "services with errors keep their last good version"


class ConfigFile:
    """Owns the file; the program must log as JSON, at info or below.

    Each change waits for the lines that it gives.

    Attributes:
        told: every line about a reload that was waited for.
    """

    def __init__(
        self, process: Process, path: Path, config: dict[str, Any], *, debounce: float = 0.03
    ) -> None:
        self.process = process
        self.path = path
        self.config = config
        config["hot_reload"] = {"debounce_delay": f"{debounce * 1000:g}ms", "drain_timeout": "1s"}
        config["logging"] = {"level": "info", "format": "json"}
        self.told: list[dict[str, Any]] = []
        self.replace()

    def text(self) -> str:
        return json.dumps(self.config, indent=1)  # JSON is YAML

    # ---- ways to write it

    def replace(self, text: str | None = None) -> None:
        """A new file takes the place of the old one."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(self.text() if text is None else text)
        fresh.replace(self.path)

    def overwrite(self, text: str | None = None) -> None:
        """The same file, written from its beginning."""
        self.path.write_text(self.text() if text is None else text)

    def by_backup(self, text: str | None = None) -> None:
        """The old file becomes a backup, for a moment there is none."""
        backup = self.path.with_suffix(".yaml~")
        self.path.replace(backup)
        self.path.write_text(self.text() if text is None else text)
        backup.unlink()

    # ---- what comes of it

    async def tell(self, change: Callable[[], object], *expected: str) -> list[dict[str, Any]]:
        """Make a change; return the log lines about it, `expected` ones with these words.

        On a busy machine the program may read a file that is written in place before it is
        complete; it refuses the incomplete file first.
        It may also see the change before this one twice; then it reloads once more and finds
        that nothing has changed.
        """
        since = self.process.position()
        await asyncio.to_thread(change)
        found = await eventually(
            lambda: self._enough(since, expected), f"{expected} of {self.process.name}", 15
        )
        early, lines = found[: -len(expected)], found[-len(expected) :]
        assert all(line["event"] == REFUSED for line in early), early
        for line, words in zip(lines, expected, strict=True):
            assert words in json.dumps(line, ensure_ascii=False), f"{words!r} is not in {line}"
        self.told += found
        return lines

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def reloads(self, since: int = 0) -> list[dict[str, Any]]:
        """All lines about reloads."""
        lines = [
            line
            for line in self.process.text(since).splitlines(keepends=True)
            if '"logger": "config"' in line
        ]
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [line for line in found if line["event"] in (RELOADED, REFUSED, PARTLY)]

    def _enough(self, since: int, expected: Sequence[str]) -> list[dict[str, Any]] | None:
        lines = self.reloads(since)
        if NO_CHANGE not in expected[0]:
            while lines and NO_CHANGE in json.dumps(lines[0]):
                del lines[0]
        refused = (
            bool(lines)
            and lines[-1]["event"] == REFUSED
            and expected[-1] not in json.dumps(lines[-1])
        )
        return lines if len(lines) >= len(expected) and not refused else None
