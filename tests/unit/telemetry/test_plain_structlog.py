"""Tests of zerotrust.telemetry.plain_structlog."""

from tests.support.imports import imported_by


def test_structlog_does_not_import_rich() -> None:
    modules = imported_by("zerotrust.telemetry.plain_structlog")
    assert "structlog" in modules
    assert "rich" not in modules


def test_rich_can_be_imported_before_and_after_it() -> None:
    assert "rich.console" in imported_by(
        "rich", "zerotrust.telemetry.plain_structlog", "rich.console"
    )
    assert "rich.console" in imported_by("zerotrust.telemetry.plain_structlog", "rich.console")
