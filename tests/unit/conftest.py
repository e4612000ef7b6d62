"""Fixtures of the unit tests."""

import logging
from collections.abc import Iterator

import pytest
import structlog

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
