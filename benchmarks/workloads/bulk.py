"""Bulk transfers: one large download or upload at a time."""

from benchmarks.environment import Environment
from benchmarks.load.jobs import Job
from benchmarks.metrics import Metric
from benchmarks.targets import ALONE, Target
from benchmarks.workloads.comparison import rate_metric, rates

_GIB = 1 << 30
_QUICK = 128 << 20
_MB = 1e-6


async def download(environment: Environment, title: str) -> list[Metric]:
    """Download from the web backend."""

    def job(target: Target) -> Job | None:
        if target.web is None:
            return None
        size = bulk_size(environment)
        return Job(kind="download", endpoint=target.web, size=size, path=f"/bulk/{size}")

    first = job(environment.targets[ALONE])
    assert first is not None
    await environment.run(
        f"{title}, {ALONE}", first
    )  # unmeasured: puts the file into the page cache
    return [rate_metric(title, "MB/s", "MB/s", await rates(environment, title, job), scale=_MB)]


async def upload(environment: Environment, title: str) -> list[Metric]:
    """Upload to our own origin through each target; nginx by itself accepts no uploads."""

    def job(target: Target) -> Job | None:
        if target.stream is None:
            return None
        return Job(
            kind="upload", endpoint=target.stream, size=bulk_size(environment), path="/upload"
        )

    return [rate_metric(title, "MB/s", "MB/s", await rates(environment, title, job), scale=_MB)]


def bulk_size(environment: Environment) -> int:
    """Return the size of a transfer; nginx has a file of each size (lab.nginx)."""
    return _QUICK if environment.options.quick else _GIB
