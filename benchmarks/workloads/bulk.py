"""One big transfer at a time, down and up."""

from benchmarks.environment import Rig
from benchmarks.load.jobs import Job
from benchmarks.metrics import Figure
from benchmarks.targets import ALONE, Way
from benchmarks.workloads.comparing import rate_figure, rates

_GIB = 1 << 30
_QUICK = 128 << 20
_MB = 1e-6


async def download(rig: Rig, title: str) -> list[Figure]:
    """From the web backend."""

    def job(way: Way) -> Job | None:
        if way.web is None:
            return None
        size = bulk_size(rig)
        return Job(kind="download", endpoint=way.web, size=size, path=f"/bulk/{size}")

    first = job(rig.ways[ALONE])
    assert first is not None
    await rig.run(
        f"{title}, {ALONE}", first
    )  # once unmeasured: then the file is in the page cache for everyone
    return [rate_figure(title, "MB/s", "MB/s", await rates(rig, title, job), scale=_MB)]


async def upload(rig: Rig, title: str) -> list[Figure]:
    """To our own origin: nginx by itself takes no uploads, and what counts is that both ways
    lead to the same."""

    def job(way: Way) -> Job | None:
        if way.stream is None:
            return None
        return Job(kind="upload", endpoint=way.stream, size=bulk_size(rig), path="/upload")

    return [rate_figure(title, "MB/s", "MB/s", await rates(rig, title, job), scale=_MB)]


def bulk_size(rig: Rig) -> int:
    """Bytes of a transfer; nginx has a file of each size (lab.nginx)."""
    return _QUICK if rig.options.quick else _GIB
