"""A whole run: the rig, the workloads, the report."""

import asyncio
import signal
from dataclasses import replace
from typing import Final

from benchmarks import chart, machine, regression, report
from benchmarks.environment import Rig
from benchmarks.metrics import Figure
from benchmarks.options import Options
from benchmarks.workloads.registry import Workload, chosen
from zerotrust.errors import BenchError, SetupError

FAILED: Final = 1


def run(options: Options) -> int:
    """Measure, print, write; the exit status.

    Raises:
        BenchError: nothing could be measured, or files cannot be read or written.
        SetupError: a program or a file that is needed cannot be used.
        KeyboardInterrupt: on SIGINT, SIGTERM and SIGHUP, after everything is ended.
    """
    try:
        return asyncio.run(_until_signal(options))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _until_signal(options: Options) -> int:
    """A second Ctrl-C interrupts nothing: what was started is being ended."""
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
        workloads = chosen(only=options.only, quick=options.quick, growth=options.growth)
        if not workloads:
            raise BenchError(f'--only "{options.only}": no workload has this in its name')
        earlier = regression.load(options.check) if options.check else None
        figures: list[Figure] = []
        with self._console.status("starting backends, Caddy, server and agent") as status:
            async with Rig(options, self._note) as rig:
                backend = f"backends: {rig.backend_name}, our own origin and echo by picows"
                self._note(f"{backend}; {options.rounds} rounds of {options.seconds:g} s")
                for workload in workloads:
                    status.update(workload.name)
                    found = await self._measure(rig, workload)
                    if earlier and (falls := earlier.falls(found, options.tolerance)):
                        self._note(f"{falls[0]}; is measured again")
                        found = regression.better_of(found, await self._measure(rig, workload))
                    figures += found
        self._report(figures, rig.backend_name)
        return FAILED if self._has_fallen(figures, earlier) or self._failed else 0

    async def _measure(self, rig: Rig, workload: Workload) -> list[Figure]:
        """Measure one workload; report a failure and let the run go on."""
        try:
            found = await workload.run(rig, workload.name)
        except (BenchError, SetupError) as error:
            self._failed = True
            self._note(f"error: {workload.name}: not measured: {error}")
            return []
        return [replace(figure, target=workload.target(figure.measure)) for figure in found]

    def _report(self, figures: list[Figure], backend: str) -> None:
        options = self._options
        if not figures:
            raise BenchError("nothing was measured")
        report.show(self._console, figures)
        settings = {
            "quick": options.quick,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "backend": backend,
        }
        found = report.document(figures, settings=settings, machine=machine.facts())
        written = report.write(options.out, report.LATEST, report.encode(found))
        drawn = report.write(options.out, report.CHART, chart.draw(figures))
        self._note(f"written: {written}, {drawn}")

    def _has_fallen(self, figures: list[Figure], earlier: regression.Earlier | None) -> bool:
        """Say what fell against an earlier run."""
        if earlier is None:
            return False
        if not earlier.shares(figures):
            raise BenchError(f"{self._options.check}: has none of the ratios that were measured")
        if earlier.quick != self._options.quick:
            self._note(
                f"{self._options.check}: one of the two runs was quick and the other was not"
            )
        tolerance = self._options.tolerance
        falls = earlier.falls(figures, tolerance)
        for fall in falls:
            self._note(f"FELL: {fall}")
        if not falls:
            self._note(f"no ratio fell by more than {tolerance:.0%} against {self._options.check}")
        return bool(falls)

    def _note(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)
