"""Fixtures of all tests: asynchronous ones run on one uvloop per worker (anyio's plugin); what
is measured is shown."""

import gc
from collections.abc import Callable

import pytest
from hypothesis import settings
from xdist.scheduler import Scheduling

from tests.support.timeout_plugin import Patience
from tests.support.xdist_scheduler import GroupsToTheEnd

Measured = Callable[[str], None]

settings.register_profile(
    "quick", max_examples=20
)  # for `make check`; the default, 100, is for `make test`


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Takes a sentence with a figure; the run's summary shows it, also when the test passes."""
    return lambda sentence: record_property("measured", sentence)


def pytest_collection_finish() -> None:
    """Keep the collected tests out of garbage collection: they stay until the end."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Patience())


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling | None:
    return GroupsToTheEnd(config, log) if config.getvalue("dist") == "loadgroup" else None


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
