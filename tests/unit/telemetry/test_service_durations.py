"""Tests of zerotrust.telemetry.service_durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.telemetry.finished_requests import finished
from tests.unit.telemetry.test_metrics import read
from zerotrust.telemetry import service_durations
from zerotrust.telemetry.metrics import text
from zerotrust.telemetry.service_durations import BUCKETS, DurationHistogram, ServiceDurations

APP = (("agent", "home"), ("service", "app"))


def test_durations_statuses_and_first_bytes() -> None:
    durations = ServiceDurations()
    durations.add(finished())
    durations.add(finished(status=502, answered_at=0.0, ended_at=10.02))
    durations.add(finished(status=101, ended_at=5000.0))
    durations.add(finished(status=0, answered_at=0.0))
    durations.add(finished(agent="", status=404))
    found = read(text(durations.collect()))
    name = "zerotrust_request_duration_seconds"
    assert found[f"{name}_bucket", (*APP[:1], ("le", "0.025"), *APP[1:])] == 1
    assert found[f"{name}_bucket", (*APP[:1], ("le", "+Inf"), *APP[1:])] == 3
    assert round(found[f"{name}_sum", APP], 3) == 1.02
    assert found["zerotrust_request_first_byte_seconds_count", APP] == 1
    statuses = {
        dict(labels)["status"]: value
        for (sample, labels), value in found.items()
        if sample == "zerotrust_service_requests_total"
    }
    assert statuses == {"2xx": 1, "5xx": 1, "1xx": 1, "none": 1}


def test_the_number_of_services_is_bounded(monkeypatch: object) -> None:
    durations = ServiceDurations()
    for number in range(service_durations.MAX_SERVICES + 20):
        durations.add(finished(service=f"s{number}"))
    found = read(text(durations.collect()))
    counts = {
        dict(labels)["service"]: value
        for (sample, labels), value in found.items()
        if sample == "zerotrust_request_duration_seconds_count"
    }
    assert len(counts) == service_durations.MAX_SERVICES + 1
    assert counts["others"] == 20


def services(durations: ServiceDurations) -> dict[str, float]:
    """Return the number of requests of each service."""
    return {
        dict(labels)["service"]: value
        for (sample, labels), value in read(text(durations.collect())).items()
        if sample == "zerotrust_request_duration_seconds_count"
    }


def test_a_service_without_requests_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_durations, "MAX_SERVICES", 2)
    durations = ServiceDurations()
    durations.add(finished(service="old", ended_at=100.0))
    durations.add(finished(service="busy", ended_at=100.0))
    durations.add(finished(service="new", ended_at=3600.0))
    durations.add(finished(service="busy", ended_at=3690.0))
    assert services(durations) == {"old": 1, "busy": 2, "others": 1}
    durations.add(finished(service="new", ended_at=3650.0))
    assert services(durations)["others"] == 2, "it looks once a minute"
    durations.add(finished(service="new", ended_at=3700.0))
    assert services(durations) == {"busy": 2, "new": 1, "others": 2}


@given(st.lists(st.floats(0, 100)))
def test_buckets_are_those_of_a_naive_count(values: list[float]) -> None:
    histogram = DurationHistogram()
    for value in values:
        histogram.add(value)
    expected = [float(sum(value <= bound for value in values)) for bound in BUCKETS]
    assert [count for _, count in histogram.buckets()] == [*expected, float(len(values))]
