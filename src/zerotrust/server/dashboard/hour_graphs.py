"""Graphs and table of the last hour: of a service, of all services, and of agents' links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zerotrust.net.background_work import next_slice
from zerotrust.server.dashboard import shown_numbers as shown
from zerotrust.server.dashboard.line_graph import Graph, Line, averages
from zerotrust.telemetry.hour_ring import SLOT, SLOTS
from zerotrust.telemetry.service_traffic import TrafficHour

ROWS: Final = 12
"""Rows of a table: five minutes each."""

_STEP: Final = SLOTS // ROWS


@dataclass(frozen=True, slots=True)
class HourTable:
    """Averages of the last hour, as a table of texts: the same numbers as in the graphs.

    Attributes:
        columns: headings.
        rows: the cells of each row, newest first; the first says how long ago it was.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def traffic_graphs(hour: TrafficHour, key: str) -> list[Graph]:
    """Return the graphs of a service, or of all.

    Args:
        key: letters for ids; each set of graphs on a page has another.
    """
    return [
        Graph(f"{key}-requests", "Requests", [Line("", hour.requests)], shown.rate),
        Graph(f"{key}-errors", "Failed requests", [Line("", hour.errors)], shown.share),
        Graph(
            f"{key}-latency",
            "Time to the first byte",
            [Line("p50", hour.p50), Line("p99", hour.p99)],
            shown.duration,
        ),
        Graph(
            f"{key}-websockets",
            "Open WebSockets",
            [Line("", hour.websockets)],
            shown.count,
        ),
        Graph(
            f"{key}-bytes",
            "Bytes",
            [Line("to clients", hour.sent), Line("from clients", hour.received)],
            shown.byte_rate,
        ),
    ]


def round_trip_graph(seconds: Sequence[float], key: str) -> Graph:
    """Return the graph of the link to an agent."""
    return Graph(key, "Round trip of the link", [Line("", seconds)], shown.duration)


async def drawn(graphs: Sequence[Graph]) -> Mapping[str, Any]:
    """Return the values for `graphs.html`: graphs with their drawings, and their numbers.

    One takes 1 ms, a slice of background work.
    """
    drawings = []
    for graph in graphs:
        await next_slice()
        drawings.append((graph, graph.svg))
    await next_slice()
    return {"graphs": drawings, "table": hour_table(graphs)}


def hour_table(graphs: Sequence[Graph]) -> HourTable:
    """Return the numbers of these graphs in a table; latencies are averages of p50 and p99."""
    columns, cells = ["Minutes ago"], []
    for graph in graphs:
        for line in graph.lines:
            columns.append(f"{graph.title}, {line.name}" if line.name else graph.title)
            cells.append([graph.show(value) for value in averages(line.values, _STEP)])
    minutes = int(SLOT * _STEP // 60)
    rows = [
        [f"{ago * minutes} to {(ago + 1) * minutes}", *(column[-1 - ago] for column in cells)]
        for ago in range(ROWS)
    ]
    return HourTable(columns, rows)
