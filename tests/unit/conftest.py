"""Fixtures of the unit tests."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from sqlalchemy import URL, Engine, create_engine, event

from tests.support.databases import empty_url, postgresql, url
from zerotrust.telemetry import logs

__all__ = ["empty_url", "postgresql", "url"]


@pytest.fixture(autouse=True)
def _unconfigured_logs() -> Iterator[None]:
    """Undo a test's logging configuration, so that the next test can capture its log lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    if not structlog.is_configured():
        return
    logs.close()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    for proxy in logs.LOGGERS.values():
        vars(proxy).pop("bind", None)


@pytest.fixture(scope="session", autouse=True)
def _statements_are_compiled_once() -> Iterator[None]:
    """Let the engines of all tests share their dialect and compiled statements.

    SQLAlchemy compiles each statement anew for each engine: a quarter of the time of the tests with
    a database.
    """
    engines: dict[str, Engine] = {}

    def create(url: URL, **options: Any) -> Engine:
        engine = create_engine(url, query_cache_size=5_000, **options)

        def share(*_: object) -> None:
            first = engines.setdefault(engine.dialect.name, engine)
            engine.dialect = first.dialect
            engine._compiled_cache = first._compiled_cache

        event.listen(engine, "connect", share)  # after SQLAlchemy's own, which prepares the dialect
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zerotrust.db.sqlite.create_engine", create)
        patch.setattr("zerotrust.db.postgresql.create_engine", create)
        yield
