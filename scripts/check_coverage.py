"""Checks the coverage of each room: `python scripts/check_coverage.py REPORT`.

REPORT is what `coverage json` wrote. The exit status is 1 if a room has less coverage than ROOMS
asks for.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final

PACKAGE: Final = "zerotrust"
ROOMS: Final = {
    # Rooms without I/O: each line and each branch.
    "errors": 100,
    "model": 100,
    "limits": 100,
    "tunnel": 100,
    "http": 100,
    "balancing": 100,
    "routing": 100,
    "access": 100,
    "middleware": 100,
    # Rooms with I/O.
    "net": 90,
    "telemetry": 90,
    "config": 90,
    "pki": 90,
    "caddy": 90,
    "db": 90,
    "enrollment": 90,
    "accounts": 90,
    "doctor": 90,
    "agent": 90,
    "server": 90,
    "server.access": 90,
    "server.dashboard": 90,
    "server.portal": 90,
    "cli": 90,
}
"""The percentage that each room needs, of its lines and of its branches.

A part such as `server.access` counts by itself, and not for the room that it is in.
"""


@dataclass(slots=True)
class RoomCoverage:
    """Coverage of one room, with what is missing."""

    lines: int = 0
    covered_lines: int = 0
    branches: int = 0
    covered_branches: int = 0
    missing: list[str] = field(default_factory=list)
    """One entry a file that has lines or branches without coverage."""

    def add(self, path: str, file: Mapping[str, Any]) -> None:
        """Count one file of the report."""
        summary = file["summary"]
        self.lines += summary["num_statements"]
        self.covered_lines += summary["covered_lines"]
        self.branches += summary["num_branches"]
        self.covered_branches += summary["covered_branches"]
        lines = file["missing_lines"]
        parts = [
            *_ranges(lines),
            *(
                f"{source}->{target if target > 0 else 'exit'}"
                for source, target in file["missing_branches"]
                if source not in lines and target not in lines  # else the line is listed already
            ),
        ]
        if parts:
            self.missing.append(f"{path}: {', '.join(parts)}")

    def reaches(self, percent: int) -> bool:
        """Return whether lines and branches both have this coverage."""
        return (
            100 * self.covered_lines >= percent * self.lines
            and 100 * self.covered_branches >= percent * self.branches
        )


def main(report: Path) -> int:
    """Print one line a room, and what is missing in rooms below their number."""
    rooms = by_room(json.loads(report.read_text(encoding="utf-8"))["files"])
    print("coverage       lines  branches  needed")
    failed = False
    for name, needed in ROOMS.items():
        room = rooms.pop(name, None)
        if room is None:
            print(f"{name}: no file in {report}; remove its number from ROOMS or measure it")
            failed = True
            continue
        passed = room.reaches(needed)
        lines = _percent(room.covered_lines, room.lines)
        branches = _percent(room.covered_branches, room.branches)
        print(f"{name:<13} {lines:>6} {branches:>9} {needed:>7}{'' if passed else '  FAILED'}")
        if not passed:
            failed = True
            print(*(f"    {entry}" for entry in room.missing), sep="\n")
    for name in rooms:
        print(f"{name}: not in ROOMS; add the percentage that it needs")
        failed = True
    return int(failed)


def by_room(files: Mapping[str, Mapping[str, Any]]) -> dict[str, RoomCoverage]:
    """Return the coverage of each room in the files of a report."""
    rooms: dict[str, RoomCoverage] = defaultdict(RoomCoverage)
    for path, file in sorted(files.items()):
        parts = PurePath(path).with_suffix("").parts
        room, *inside = parts[parts.index(PACKAGE) + 1 :]
        part = f"{room}.{inside[0]}" if inside else room
        if not room.startswith("__"):
            rooms[part if part in ROOMS else room].add(path, file)
    return dict(rooms)


def _ranges(lines: list[int]) -> Iterator[str]:
    """Yield line numbers as text, adjacent ones as a range."""
    first = last = None
    for line in [*lines, None]:
        if line is not None and last is not None and line == last + 1:
            last = line
            continue
        if first is not None:
            yield f"{first}" if first == last else f"{first}-{last}"
        first = last = line


def _percent(covered: int, total: int) -> str:
    """Return a percentage that shows 100.0 only if nothing is missing."""
    return f"{(1000 * covered // total if total else 1000) / 10:.1f}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/check_coverage.py REPORT")
    sys.exit(main(Path(sys.argv[1])))
