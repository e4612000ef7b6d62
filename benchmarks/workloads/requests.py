"""GET of 1 KiB, over kept and over new connections."""

from benchmarks.environment import KIB, Environment
from benchmarks.load.jobs import Job
from benchmarks.metrics import Metric, alone, compare
from benchmarks.targets import ALONE, OURS, WITHOUT_CADDY, Target
from benchmarks.workloads.comparison import latencies, latency_metrics, rate_metric, rates, rates_of


async def kept(environment: Environment, title: str) -> list[Metric]:
    """Measure requests over 32 kept connections."""

    def job(target: Target) -> Job | None:
        if target.web is None:
            return None
        watch = environment.watched if target.name == OURS else {}
        return Job(
            kind="get",
            endpoint=target.web,
            connections=32,
            seconds=environment.options.seconds,
            size=KIB,
            path="/1k",
            watch=watch,
        )

    closed = await rates(environment, title, job, without=())
    opened = await latencies(environment, title, job, closed)
    return [
        rate_metric(title, "requests/s", "/s", closed),
        *latency_metrics(title, opened),
        *(
            alone(
                title,
                f"CPU of the {name}",
                "µs",
                [outcome.cpu[name] * 1e6 for outcome in closed[OURS]],
            )
            for name in environment.watched
        ),
        compare(
            title,
            "requests/s without Caddy, to backend alone",
            "/s",
            ours=rates_of(closed[WITHOUT_CADDY]),
            baseline=rates_of(closed[ALONE]),
        ),
    ]


async def sequential(environment: Environment, title: str) -> list[Metric]:
    """Measure the latency of requests of one client, which waits for each answer."""

    def job(target: Target) -> Job | None:
        if target.web is None:
            return None
        return Job(
            kind="get",
            endpoint=target.web,
            seconds=environment.options.seconds,
            size=KIB,
            path="/1k",
        )

    return latency_metrics(title, await rates(environment, title, job, without=()))


async def fresh(environment: Environment, title: str) -> list[Metric]:
    """Measure requests over a new connection each."""

    def job(target: Target) -> Job | None:
        if target.web is None:
            return None
        return Job(
            kind="fresh",
            endpoint=target.web,
            connections=32,
            seconds=environment.options.seconds,
            size=KIB,
            path="/1k",
        )

    closed = await rates(environment, title, job)
    return [
        rate_metric(title, "requests/s", "/s", closed),
        *latency_metrics(title, await latencies(environment, title, job, closed)),
    ]
