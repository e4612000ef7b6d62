"""Registry of workloads: names, members of a quick run, and targets."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.environment import Environment
from benchmarks.metrics import Metric, Threshold, at_least, at_most
from benchmarks.workloads import (
    bulk,
    dashboards,
    events,
    fairness,
    gates,
    memory,
    policies,
    requests,
    scale,
    scaling,
    sockets,
    starting,
    websocket_tunnel,
)


@dataclass(frozen=True)
class Workload:
    """One workload.

    Attributes:
        thresholds: thresholds by the name of the measure, or by its prefix before " of".
        is_growth: measured only with `--growth`.
        compares_targets: does the same work over each target; with `--peers` only these run.
    """

    name: str
    run: Callable[[Environment, str], Awaitable[list[Metric]]]
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    is_quick: bool = False
    is_growth: bool = False
    compares_targets: bool = False

    def threshold(self, measure: str) -> Threshold | None:
        """Return the target for a measure."""
        found = self.thresholds.get(measure)
        if found is None:
            found = next(
                (
                    threshold
                    for begin, threshold in self.thresholds.items()
                    if measure.startswith(f"{begin} of")
                ),
                None,
            )
        return found


WORKLOADS: Final = (
    Workload(
        "1 KiB GET, keep-alive, 32 connections",
        requests.kept,
        {
            "requests/s": at_least(0.75),
            "CPU of the server": at_most(40),
            "CPU of the agent": at_most(40),
            "requests/s without Caddy, to backend alone": at_least(0.30),
        },
        is_quick=True,
        compares_targets=True,
    ),
    Workload(
        "1 KiB GET, one after the other over one connection",
        requests.sequential,
        {"p50": at_most(2.0)},
        compares_targets=True,
    ),
    Workload("1 KiB GET, a new connection each, 32 clients", requests.fresh, compares_targets=True),
    Workload(
        "1 KiB GET through a gate, against a public host name",
        gates.with_a_token,
        {"requests/s": at_least(0.97), "requests/s without Caddy": at_least(0.97)},
        is_quick=True,
    ),
    Workload(
        "64 B WebSocket echo, 64 connections",
        sockets.small_echo,
        {"messages/s": at_least(0.75), "p99": at_most(2.2)},
        is_quick=True,
        compares_targets=True,
    ),
    Workload(
        "64 B WebSocket echo, one after the other over one connection",
        sockets.sequential_echo,
        {"p50": at_most(2.0)},
        compares_targets=True,
    ),
    Workload(
        "16 KiB WebSocket echo, 64 connections",
        sockets.large_echo,
        {"messages/s": at_least(0.50)},
        compares_targets=True,
    ),
    Workload(
        "WebSocket handshakes",
        sockets.handshakes,
        {"handshakes/s": at_least(0.50)},
        is_quick=True,
        compares_targets=True,
    ),
    Workload(
        "Download", bulk.download, {"MB/s": at_least(0.65)}, is_quick=True, compares_targets=True
    ),
    Workload("Upload", bulk.upload, {"MB/s": at_least(0.60)}, compares_targets=True),
    Workload("1,000 streams of server-sent events, one a second each", events.lateness),
    Workload(
        "64 B echo beside 4 downloads, against echo alone",
        fairness.beside_downloads,
        {"p99": at_most(4)},
    ),
    Workload(
        "49 echo streams beside a stalled reader, against the 49 alone",
        fairness.beside_a_stalled_reader,
        {"p99": at_most(1.2)},
    ),
    Workload(
        "1 KiB GET beside 10,000 unknown cookies a second, against GET alone",
        gates.beside_strangers,
        {"p99": at_most(1.2)},
    ),
    Workload(
        "64 B echo at 10 services with 500 WebSockets beside 5 dashboards, against echo alone",
        dashboards.beside_dashboards,
        {"p99": at_most(1.10)},
    ),
    Workload("Idle WebSockets", memory.idle, {"memory": at_most(8)}, is_quick=True),
    Workload(
        "The costliest policy that is accepted, with the worst request",
        policies.costliest,
        {"loop held": at_most(5)},
        is_quick=True,
    ),
    Workload("A tunnel in a WebSocket through Caddy, against a direct one", websocket_tunnel.cost),
    Workload("From `0trust agent run` to the first 200", starting.first_answer),
    Workload("10,000 services, against 1 service", scale.services, {"requests/s": at_least(0.95)}),
    Workload(
        "500 agents, against 1 agent",
        scale.agents,
        {"seconds from the server's restart until all serve": at_most(5)},
    ),
    Workload("Growth with the connections, 1 KiB GET", scaling.connections, is_growth=True),
    Workload("An idle server and agent", scaling.idle_cpu, is_growth=True),
)


def chosen(*, only: str, quick: bool, growth: bool, with_peers: bool = False) -> list[Workload]:
    """Return the workloads of a run.

    A workload that was named is included even if a quick run would leave it out.
    """
    return [
        workload
        for workload in WORKLOADS
        if only.lower() in workload.name.lower()
        and (workload.is_quick or not quick or only)
        and (growth or not workload.is_growth)
        and (workload.compares_targets or not with_peers)
    ]
