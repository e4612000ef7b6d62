"""Metrics of a server from those of its workers, in the text format of Prometheus."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from zerotrust.telemetry.metrics import PREFIX, rendered

_LARGEST: Final = frozenset(
    {
        f"{PREFIX}{name}"
        for name in (
            "build_info",
            "agents",
            "agents_overloaded",
            "overloaded",
            "session_bytes_most",
            "event_loop_lag_seconds",
            "members",
        )
    }
    | {"process_start_time_seconds"}
)
"""Gauges of which the largest counts. Each agent has a session with each worker. All others add up,
as counters and histograms do, and what single processes have (`process_open_fds` and
`process_max_fds`)."""
_LIMIT: Final = f"{PREFIX}limit"
_SHARED_LIMITS: Final = frozenset(
    {"requests", "requests_per_agent", "memory_bytes", "memory_per_agent_bytes"}
    | {"policies_per_agent_bytes", "api_connections"}
)
"""Limits of which each worker has a share."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


def merge(texts: Iterable[bytes]) -> bytes:
    """Return the metrics of all workers together.

    Raises:
        ValueError: one is no text of metrics.
    """
    families: dict[str, Metric] = {}
    values: dict[str, dict[_Key, float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text.decode()):
            families.setdefault(family.name, family)
            found = values.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                if key not in found:
                    found[key] = sample.value
                elif _adds_up(family.name, sample.labels):
                    found[key] += sample.value
                else:
                    found[key] = max(found[key], sample.value)
    merged = []
    for name, family in families.items():
        whole = Metric(name, family.documentation, family.type)
        for (sample_name, labels), value in values[name].items():
            whole.add_sample(sample_name, dict(labels), value)
        merged.append(whole)
    return rendered(merged)


def _adds_up(name: str, labels: dict[str, str]) -> bool:
    if name == _LIMIT:
        return labels.get("name") in _SHARED_LIMITS
    return name not in _LARGEST
