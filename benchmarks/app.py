"""A benchmark run: environment, workloads, report."""

import asyncio
import signal
from dataclasses import replace
from typing import Final

from benchmarks import chart, machine, regression, report
from benchmarks.environment import Environment
from benchmarks.metrics import Metric
from benchmarks.options import Options
from benchmarks.workloads.registry import Workload, chosen
from zerotrust.errors import BenchError, SetupError

FAILED: Final = 1


def run(options: Options) -> int:
    """Measure, print and write the results; return the exit status.

    Raises:
        BenchError: nothing could be measured, or files cannot be read or written.
        SetupError: a required program or file cannot be used.
        KeyboardInterrupt: on SIGINT, SIGTERM and SIGHUP, after all processes have ended.
    """
    try:
        return asyncio.run(_until_signal(options))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _until_signal(options: Options) -> int:
    """Run until done or cancelled by a signal; a second signal does not interrupt the cleanup."""
    loop = asyncio.get_running_loop()
    work = loop.create_task(_Run(options).all())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: work.cancelling() or work.cancel())
    return await work


class _Run:
    """One run."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._console = report.console()
        self._failed = False

    async def all(self) -> int:
        options = self._options
        workloads = chosen(
            only=options.only,
            quick=options.quick,
            growth=options.growth,
            with_peers=options.with_peers,
        )
        if not workloads:
            raise BenchError(f'--only "{options.only}": no workload has this in its name')
        earlier = regression.load(options.check) if options.check else None
        metrics: list[Metric] = []
        with self._console.status("starting backends, Caddy, server and agent") as status:
            async with Environment(options, self._note) as environment:
                backend = f"backends: {environment.backend_name}, our own origin and echo by picows"
                self._note(f"{backend}; {options.rounds} rounds of {options.seconds:g} s")
                for workload in workloads:
                    status.update(workload.name)
                    found = await self._measure(environment, workload)
                    if earlier and (regressions := earlier.regressions(found, options.tolerance)):
                        self._note(f"{regressions[0]}; is measured again")
                        found = regression.better_of(
                            found, await self._measure(environment, workload)
                        )
                    metrics += found
        self._report(metrics, environment.backend_name)
        return FAILED if self._has_regressed(metrics, earlier) or self._failed else 0

    async def _measure(self, environment: Environment, workload: Workload) -> list[Metric]:
        """Measure one workload; report a failure and let the run go on."""
        try:
            found = await workload.run(environment, workload.name)
        except (BenchError, SetupError) as error:
            self._failed = True
            self._note(f"error: {workload.name}: not measured: {error}")
            return []
        return [replace(metric, threshold=workload.threshold(metric.measure)) for metric in found]

    def _report(self, metrics: list[Metric], backend: str) -> None:
        options = self._options
        if not metrics:
            raise BenchError("nothing was measured")
        report.show(self._console, metrics)
        settings = {
            "quick": options.quick,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "backend": backend,
        }
        found = report.document(metrics, settings=settings, machine=machine.facts())
        written = report.write(options.out, report.LATEST, report.encode(found))
        drawn = report.write(options.out, report.CHART, chart.draw(metrics))
        self._note(f"written: {written}, {drawn}")

    def _has_regressed(self, metrics: list[Metric], earlier: regression.EarlierRun | None) -> bool:
        """Report the regressions against an earlier run; return True if there are any."""
        if earlier is None:
            return False
        if not earlier.shares(metrics):
            raise BenchError(f"{self._options.check}: has none of the ratios that were measured")
        if earlier.quick != self._options.quick:
            self._note(
                f"{self._options.check}: one of the two runs was quick and the other was not"
            )
        tolerance = self._options.tolerance
        regressions = earlier.regressions(metrics, tolerance)
        for regressed in regressions:
            self._note(f"FELL: {regressed}")
        if not regressions:
            self._note(f"no ratio fell by more than {tolerance:.0%} against {self._options.check}")
        return bool(regressions)

    def _note(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)
