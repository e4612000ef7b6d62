"""Tests of zerotrust.telemetry.merged_metrics."""

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from zerotrust.telemetry.merged_metrics import merge
from zerotrust.telemetry.metrics import counter, gauge, limits, rendered


def worker(requests: int, streams: int, *, agent: str) -> bytes:
    durations = HistogramMetricFamily("zerotrust_seconds", "Seconds.")
    durations.add_metric([], [("1.0", requests), ("+Inf", requests)], sum_value=2.5)
    return rendered(
        [
            counter("requests_total", "Requests.", requests),
            counter("refused_total", "Refused.", {"no_agent": 1}, "code"),
            gauge("agent_streams", "Streams.", {agent: streams}, "agent"),
            gauge("agents", "Agents.", 3),
            gauge("event_loop_lag_seconds", "Lag.", streams / 10),
            limits({"requests": 50, "head_bytes": 65536}),
            GaugeMetricFamily("process_open_fds", "Open.", 100 * streams),
            GaugeMetricFamily("process_max_fds", "Most.", 1024),
            durations,
        ]
    )


def test_counts_add_up_and_states_do_not() -> None:
    text = merge([worker(3, 1, agent="a"), worker(4, 2, agent="b")]).decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["zerotrust_requests_total",] == 7
    assert found["zerotrust_refused_total", "no_agent"] == 2
    assert found["zerotrust_agent_streams", "a"] == 1
    assert found["zerotrust_agent_streams", "b"] == 2
    assert found["zerotrust_agents",] == 3
    assert found["zerotrust_event_loop_lag_seconds",] == 0.2
    assert found["zerotrust_limit", "requests"] == 100
    assert found["zerotrust_limit", "head_bytes"] == 65536
    assert (found["process_open_fds",], found["process_max_fds",]) == (300, 2048)
    assert found["zerotrust_seconds_bucket", "+Inf"] == 7
    assert found["zerotrust_seconds_sum",] == 5


def test_one_worker_says_the_same_alone() -> None:
    alone = worker(3, 1, agent="a")
    assert merge([alone]) == alone
    with pytest.raises(ValueError):
        merge([b"no { metrics"])
