"""Fixtures of all tests: one event loop per worker (anyio's plugin); measurements are printed."""

import gc
import sys
from collections.abc import Callable

import pytest
from hypothesis import settings
from xdist.scheduler import Scheduling

from tests.support.timeout_plugin import TimeoutPlugin
from tests.support.xdist_scheduler import CrashTolerantScheduling
from zerotrust.net.uvloop_fix import WatchingLoop

Measured = Callable[[str], None]

# Without a deadline: speed is measured by the benchmark, and other tests run at the same time.
settings.register_profile("thorough", max_examples=100, deadline=None)
settings.register_profile("quick", max_examples=20, deadline=None)  # for `make check`
# For `make coverage`: the same examples each time, or its result would differ.
settings.register_profile("coverage", max_examples=10, deadline=None, derandomize=True)
settings.load_profile("thorough")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": WatchingLoop}


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Record a sentence with a measurement; the summary prints it, also if the test passes."""
    return lambda sentence: record_property("measured", sentence)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put groups with long limits first: at the end, no process waits for the last of them."""
    limits: dict[str, float] = {}
    for item in items:
        timeout = item.get_closest_marker("timeout")
        limit = timeout.args[0] if timeout else 60
        limits[_group_of(item)] = max(limits.get(_group_of(item), 0), limit)
    items.sort(key=lambda item: -limits[_group_of(item)])


def _group_of(item: pytest.Item) -> str:
    group = item.get_closest_marker("xdist_group")
    return group.args[0] if group else item.nodeid


def pytest_collection_finish() -> None:
    """Exclude the collected tests from garbage collection: they stay until the end."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(20_000, 20, 20)  # as the programs do; else it takes a tenth of the time
    config.pluginmanager.register(TimeoutPlugin())
    if "coverage" in sys.modules and config.getoption("numprocesses", None):
        _stop_coverage()
    elif "coverage" in sys.modules and sys.gettrace() is not None:
        from tests.support.coverage_pause import CoveragePause

        config.pluginmanager.register(CoveragePause())


def _stop_coverage() -> None:
    """Measure no coverage in the process that only hands out the tests: it takes half as long."""
    from coverage import Coverage

    if (measured := Coverage.current()) is not None:
        measured.stop()


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling | None:
    return CrashTolerantScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
    ]
    sentences = [
        str(value)
        for report in reports
        for name, value in report.user_properties
        if name == "measured"
    ]
    if sentences:
        terminalreporter.section("measured")
        for sentence in sentences:
            terminalreporter.line(sentence)
