"""Tests of the graphs and the table of the last hour."""

import math
from xml.etree import ElementTree as ET

from zerotrust.server.dashboard.hour_graphs import (
    ROWS,
    hour_table,
    round_trip_graph,
    traffic_graphs,
)
from zerotrust.telemetry.hour_ring import SLOTS
from zerotrust.telemetry.service_traffic import TrafficHour


def hour() -> TrafficHour:
    nothing = [math.nan] * SLOTS
    return TrafficHour(
        requests=[0.0] * (SLOTS - 1) + [4.0],
        errors=[0.0] * (SLOTS - 1) + [0.25],
        p50=[*nothing[1:], 0.02],
        p99=[*nothing[1:], 1.5],
        websockets=[50.0] * SLOTS,
        received=[1000.0] * SLOTS,
        sent=[2e6] * SLOTS,
    )


def test_each_measure_has_a_graph_with_another_id() -> None:
    graphs = traffic_graphs(hour(), "all")
    ids = [one.get("id") for graph in graphs for one in ET.fromstring(str(graph.svg))]
    found = [one for one in ids if one]
    assert len(found) == len(set(found)) == 2 * len(graphs)
    assert [graph.summary for graph in graphs] == [
        "4.0/s now, 4.0/s at most",
        "25 % now, 25 % at most",
        "p50: 20 ms now, 20 ms at most; p99: 1.5 s now, 1.5 s at most",
        "50 now, 50 at most",
        "to clients: 2.0 MB/s now, 2.0 MB/s at most; from clients: 1.0 kB/s now, 1.0 kB/s at most",
    ]


def test_the_table_has_five_minutes_a_row() -> None:
    table = hour_table(traffic_graphs(hour(), "all"))
    assert len(table.rows) == ROWS
    assert all(len(row) == len(table.columns) == 8 for row in table.rows)
    assert table.rows[0] == [
        "0 to 5",
        "0.2/s",
        "1.2 %",
        "20 ms",
        "1.5 s",
        "50",
        "2.0 MB/s",
        "1.0 kB/s",
    ]
    assert table.rows[-1][:4] == ["55 to 60", "0/s", "0 %", "no data"]


def test_the_round_trip_of_a_link() -> None:
    graph = round_trip_graph([0.02, 0.03], "link")
    assert graph.summary == "30 ms now, 30 ms at most"
