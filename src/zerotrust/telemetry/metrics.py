"""Metrics in the text format of Prometheus (prometheus-client writes it).

The values come from the objects that count them, when the metrics are read. Labels are ids of
agents and services, or words of ours; never a text that a client can choose.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, Metric, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

MEDIA_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
PREFIX: Final = "zerotrust_"

Labelled = (
    Mapping[str, float] | Mapping[tuple[str, str], float] | Mapping[tuple[str, str, str], float]
)
"""A number for each value of one label, or for each tuple of values of several labels."""


def gauge(name: str, meaning: str, value: float | Labelled, *labels: str) -> Metric:
    """Return a gauge; with `labels`, `value` has a number for each of their values."""
    family = GaugeMetricFamily(PREFIX + name, meaning, labels=labels)
    for label_values, number in _samples(value):
        family.add_metric(label_values, number)
    return family


def counter(name: str, meaning: str, value: float | Labelled, *labels: str) -> Metric:
    """Return a counter, as `gauge` does; its name ends in `_total`."""
    family = CounterMetricFamily(PREFIX + name, meaning, labels=labels)
    for label_values, number in _samples(value):
        family.add_metric(label_values, number)
    return family


def limits(values: Mapping[str, float]) -> Metric:
    """Return the metric of configured limits; docs/reliability.md names the metric of each one's
    usage."""
    return gauge("limit", "Configured limit.", values, "name")


def text(metrics: Iterable[Metric]) -> bytes:
    """Return these metrics as text, with those of the process: memory, CPU, descriptors (Linux
    only)."""
    return rendered([*metrics, *_PROCESS.collect()])


def rendered(metrics: Iterable[Metric]) -> bytes:
    """Return exactly these metrics as text."""
    return generate_latest(_CollectedMetrics(list(metrics)))


class _CollectedMetrics(Collector):
    """Collector of metrics that are collected already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


_PROCESS: Final = ProcessCollector(registry=None)


def _samples(value: float | Labelled) -> Iterator[tuple[tuple[str, ...], float]]:
    if not isinstance(value, Mapping):
        yield (), value
        return
    for label_values, number in value.items():
        yield label_values if isinstance(label_values, tuple) else (label_values,), number
