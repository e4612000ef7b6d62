"""Groups of processes that the kernel holds to a share of a processor (cgroups, version 1 or 2)."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PERIOD = 50_000
_ROOT = Path("/sys/fs/cgroup")


def unavailable() -> str | None:
    """Return the reason why there can be no such group; None if there can."""
    try:
        with quota(0.1):
            return None
    except OSError as error:
        return f"no CPU controller of cgroups may be used here: {error}"


@contextlib.contextmanager
def quota(share: float, *pids: int) -> Iterator[None]:
    """Hold each process to a share of one processor, in a group of its own."""
    with contextlib.ExitStack() as stack:
        for pid in pids or (None,):
            stack.enter_context(_group(share, pid))
        yield


@contextlib.contextmanager
def _group(share: float, pid: int | None) -> Iterator[None]:
    first = (_ROOT / "cpu" / "cpu.cfs_quota_us").exists()
    parent = _ROOT / "cpu" if first else _ROOT
    group = parent / f"zerotrust-{os.getpid()}-{pid}"
    group.mkdir()
    try:
        if first:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(int(PERIOD * share)))
        else:
            (group / "cpu.max").write_text(f"{int(PERIOD * share)} {PERIOD}")
        if pid is not None:
            (group / "cgroup.procs").write_text(str(pid))
        yield
        if pid is not None:
            (parent / "cgroup.procs").write_text(str(pid))
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has taken, exact to less than a microsecond.

    The time of threads that have ended is missing.
    """
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
