"""Observers of finished requests that the configuration turns on: access log, traces, durations."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from prometheus_client import Metric

from zerotrust.model.server import ServerConfig
from zerotrust.server.proxy.ingress import Ingress
from zerotrust.telemetry.access_log import AccessLogWriter
from zerotrust.telemetry.metrics import counter
from zerotrust.telemetry.request_record import RequestObserver
from zerotrust.telemetry.service_durations import ServiceDurations
from zerotrust.telemetry.tracing import Tracer, make_tracer, span_metric


@dataclass(slots=True)
class PreparedObservers:
    """Outputs of another configuration, opened and not used yet; None is none."""

    writer: AccessLogWriter | None
    tracer: Tracer | None


class RequestObservers:
    """Opens and closes the outputs, and tells the ingress who observes its requests.

    Without any output, the ingress makes no records.
    """

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress
        self._config: ServerConfig | None = None
        self._writer: AccessLogWriter | None = None
        self._tracer: Tracer | None = None
        self._durations = ServiceDurations()
        self._mine: list[RequestObserver] = []

    async def prepare(self, config: ServerConfig, undo: AsyncExitStack) -> PreparedObservers:
        """Open the outputs that this configuration needs; `undo` closes the new ones.

        Raises:
            SetupError: a file can't be opened, or OpenTelemetry is not installed.
        """
        writer, tracer = self._writer, self._tracer
        if config.access_log.output is None:
            writer = None
        elif writer is None or not writer.has_output_of(config.access_log):
            writer = AccessLogWriter(config.access_log)
            undo.callback(writer.close)
        if self._config is None or config.tracing != self._config.tracing:
            tracer = make_tracer(config.tracing, "server")
            if tracer is not None:
                undo.push_async_callback(tracer.close)
        return PreparedObservers(writer, tracer)

    async def apply(self, config: ServerConfig, prepared: PreparedObservers) -> None:
        """Use these outputs from the next request on, and close those before."""
        previous_writer, previous_tracer = self._writer, self._tracer
        self._config = config
        self._writer, self._tracer = prepared.writer, prepared.tracer
        if self._writer is not None:
            self._writer.reconfigure(config.access_log)
        self._observe()
        if previous_writer is not None and previous_writer is not self._writer:
            await asyncio.to_thread(previous_writer.close)
        if previous_tracer is not None and previous_tracer is not self._tracer:
            await previous_tracer.close()

    async def close(self) -> None:
        """Write and send what waits, and close all outputs."""
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)
        if self._tracer is not None:
            await self._tracer.close()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of requests by service, and of what the outputs have lost."""
        yield from self._durations.collect()
        lost = {"queue": 0, "output": 0} if self._writer is None else self._writer.lost
        meaning = "Lost lines of the access log, because the queue was full or the output failed."
        yield counter("access_log_lines_lost_total", meaning, lost, "reason")
        yield span_metric(self._tracer)

    def _observe(self) -> None:
        config, ingress = self._config, self._ingress
        assert config is not None
        others = [one for one in ingress.observers if one not in self._mine]
        self._mine = []
        if config.metrics.listen_addr is not None:
            self._mine.append(self._durations.add)
        if self._writer is not None:
            self._mine.append(self._writer.add)
        if self._tracer is not None:
            self._mine.append(self._tracer.add)
        ingress.tracer = self._tracer
        ingress.observers = (*self._mine, *others)
