"""Tests of zerotrust.telemetry.metrics."""

from prometheus_client.parser import text_string_to_metric_families

from zerotrust.telemetry.metrics import counter, gauge, limits, text


def read(written: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(written.decode())
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in families
        for one in family.samples
    }


def test_written_metrics_can_be_parsed() -> None:
    said = [
        gauge("streams", "Now.", 5),
        gauge("agent_streams", "Of each.", {"home": 2, 'a"b\\c\n': 3}, "agent"),
        gauge("backends", "Of each.", {("app", "idle"): 1}, "service", "state"),
        counter("requests_total", "In all.", 7),
        counter("refused_total", "In all.", {}, "code"),
        limits({"head_bytes": 32768}),
    ]
    found = read(text(said))
    assert found["zerotrust_streams", ()] == 5
    assert found["zerotrust_agent_streams", (("agent", "home"),)] == 2
    assert found["zerotrust_agent_streams", (("agent", 'a"b\\c\n'),)] == 3
    assert found["zerotrust_backends", (("service", "app"), ("state", "idle"))] == 1
    assert found["zerotrust_requests_total", ()] == 7
    assert found["zerotrust_limit", (("name", "head_bytes"),)] == 32768
    assert not any(name == "zerotrust_refused_total" for name, _ in found)


def test_process_metrics_are_included() -> None:
    found = read(text([]))
    assert found["process_resident_memory_bytes", ()] > 1_000_000
    assert 0 < found["process_open_fds", ()] <= found["process_max_fds", ()]
