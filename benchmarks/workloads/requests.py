"""1 KiB GET, over kept connections and over a new one each."""

from benchmarks.environment import KIB, Rig
from benchmarks.load.jobs import Job
from benchmarks.metrics import Figure, alone, compare
from benchmarks.targets import ALONE, OURS, WITHOUT_CADDY, Way
from benchmarks.workloads.comparing import latencies, latency_figures, rate_figure, rates, rates_of


async def kept(rig: Rig, title: str) -> list[Figure]:
    """Requests over 32 connections that stay open."""

    def job(way: Way) -> Job | None:
        if way.web is None:
            return None
        watch = rig.watched if way.name == OURS else {}
        return Job(
            kind="get",
            endpoint=way.web,
            connections=32,
            seconds=rig.options.seconds,
            size=KIB,
            path="/1k",
            watch=watch,
        )

    closed = await rates(rig, title, job, without=())
    opened = await latencies(rig, title, job, closed)
    return [
        rate_figure(title, "requests/s", "/s", closed),
        *latency_figures(title, opened),
        *(
            alone(
                title,
                f"CPU of the {name}",
                "µs",
                [outcome.cpu[name] * 1e6 for outcome in closed[OURS]],
            )
            for name in rig.watched
        ),
        compare(
            title,
            "requests/s without Caddy, to backend alone",
            "/s",
            ours=rates_of(closed[WITHOUT_CADDY]),
            baseline=rates_of(closed[ALONE]),
        ),
    ]


async def fresh(rig: Rig, title: str) -> list[Figure]:
    """Requests, each over a new connection."""

    def job(way: Way) -> Job | None:
        if way.web is None:
            return None
        return Job(
            kind="fresh",
            endpoint=way.web,
            connections=32,
            seconds=rig.options.seconds,
            size=KIB,
            path="/1k",
        )

    closed = await rates(rig, title, job)
    return [
        rate_figure(title, "requests/s", "/s", closed),
        *latency_figures(title, await latencies(rig, title, job, closed)),
    ]
