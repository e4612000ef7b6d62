"""Metrics in the text format that Prometheus reads (prometheus-client writes it).

Nothing is counted here: whoever has a number is asked for it when somebody reads the metrics. Labels are ids of agents
and services or words of ours, never what a client can choose.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, Metric, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

MEDIA_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
PREFIX: Final = "zerotrust_"

Labelled = Mapping[str, float] | Mapping[tuple[str, str], float]
"""A number for each value of a label, or of two."""


def gauge(name: str, meaning: str, value: float | Labelled, *labels: str) -> Metric:
    """What goes up and down; `value` has a number for each value of the `labels` where there are any."""
    family = GaugeMetricFamily(PREFIX + name, meaning, labels=labels)
    for said, number in _samples(value):
        family.add_metric(said, number)
    return family


def counter(name: str, meaning: str, value: float | Labelled, *labels: str) -> Metric:
    """What only grows, as `gauge`; its name ends in `_total`."""
    family = CounterMetricFamily(PREFIX + name, meaning, labels=labels)
    for said, number in _samples(value):
        family.add_metric(said, number)
    return family


def limits(values: Mapping[str, float]) -> Metric:
    """What is the most of each; usage is in the metrics that docs/reliability.md names."""
    return gauge("limit", "What a budget allows at most.", values, "name")


def text(metrics: Iterable[Metric]) -> bytes:
    """What Prometheus reads: these, and memory, CPU time and descriptors of the process (Linux only)."""
    return generate_latest(_Read([*metrics, *_PROCESS.collect()]))


class _Read(Collector):
    """What has been read already, in the form in which prometheus-client asks for it."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


_PROCESS: Final = ProcessCollector(registry=None)


def _samples(value: float | Labelled) -> Iterator[tuple[tuple[str, ...], float]]:
    if not isinstance(value, Mapping):
        yield (), value
        return
    for said, number in value.items():
        yield said if isinstance(said, tuple) else (said,), number
