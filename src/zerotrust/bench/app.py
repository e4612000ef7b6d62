"""A whole run: the rig, the workloads, the report."""

import asyncio
import signal
from dataclasses import replace
from typing import Final

from zerotrust.bench import machine, report
from zerotrust.bench.figures import Figure
from zerotrust.bench.options import Options
from zerotrust.bench.rig import Rig
from zerotrust.bench.workloads.table import Workload, chosen
from zerotrust.errors import BenchError, SetupError

FAILED: Final = 1


def run(options: Options) -> int:
    """Measure, print, write; the exit status.

    Raises:
        BenchError: nothing could be measured, or the results cannot be written.
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
        self._figures: list[Figure] = []
        self._failures: list[str] = []

    async def all(self) -> int:
        options = self._options
        workloads = chosen(only=options.only, quick=options.quick, growth=options.growth)
        if not workloads:
            raise BenchError(f'--only "{options.only}": no workload has this in its name')
        with self._console.status("starting backends, Caddy, server and agent") as status:
            async with Rig(options, self._note) as rig:
                backend = f"backends: {rig.backend_name}, our own origin and echo by picows"
                self._note(f"{backend}; {options.rounds} rounds of {options.seconds:g} s")
                for workload in workloads:
                    status.update(workload.name)
                    await self._measure(rig, workload)
        return self._report(rig.backend_name)

    async def _measure(self, rig: Rig, workload: Workload) -> None:
        """What fails is said, and the others are measured all the same."""
        try:
            found = await workload.run(rig, workload.name)
        except (BenchError, SetupError) as error:
            self._failures.append(f"{workload.name}: not measured: {error}")
            self._note(self._failures[-1])
            return
        self._figures += [replace(figure, target=workload.target(figure.measure)) for figure in found]

    def _report(self, backend: str) -> int:
        options = self._options
        if not self._figures:
            raise BenchError("nothing was measured")
        report.show(self._console, self._figures)
        settings = {
            "quick": options.quick,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "backend": backend,
        }
        found = report.document(self._figures, settings=settings, machine=machine.facts())
        path = report.write(options.out, report.LATEST, report.encode(found))
        self._note(f"written: {path}")
        return FAILED if self._failures else 0

    def _note(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)
