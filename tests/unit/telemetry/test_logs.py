"""Tests of zerotrust.telemetry.logs."""

import json
import logging
import sys
import timeit
from pathlib import Path
from typing import Any

import pytest

from zerotrust.errors import SetupError
from zerotrust.model.logging import Logging
from zerotrust.telemetry import logs


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_has_event_level_name_time_and_fields(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.configure(Logging(format="json", output=str(path)))
    logs.logger("test.one").info("agent connected", agent="ägent", streams=3)
    [line] = lines(path)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "agent connected",
        "level": "info",
        "logger": "test.one",
        "agent": "ägent",
        "streams": 3,
    }


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("warn", ["warning", "error", "critical"]),
        ("WARNING", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
        ("fatal", ["critical"]),
    ],
)
def test_levels(tmp_path: Path, level: str, expected: list[str]) -> None:
    path = tmp_path / "log"
    logs.configure(Logging.model_validate({"level": level, "format": "json", "output": str(path)}))
    log = logs.logger("test.levels")
    log.debug("x")
    log.info("x")
    log.warning("x")
    log.error("x")
    log.critical("x")
    assert [line["level"] for line in lines(path)] == expected


def test_loggers_follow_a_new_configuration(tmp_path: Path) -> None:
    log = logs.logger("test.follow")
    logs.configure(Logging(format="json", output=str(tmp_path / "one")))
    log.info("first")
    log.debug("hidden")
    logs.configure(Logging(level="debug", format="json", output=str(tmp_path / "two")))
    log.debug("second")
    assert [line["event"] for line in lines(tmp_path / "one")] == ["first"]
    assert [line["event"] for line in lines(tmp_path / "two")] == ["second"]


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    logs.configure(Logging(output=str(path)))
    logs.logger("test.append").info("after")
    assert path.read_text().startswith("before\n")
    assert "after" in path.read_text()


@pytest.mark.parametrize("output", ["stderr", "stdout"])
def test_standard_streams(capsys: pytest.CaptureFixture[str], output: str) -> None:
    logs.configure(Logging(output=output))
    logs.logger("test.streams").info("hello there", agent="a")
    written = getattr(capsys.readouterr(), output.removeprefix("std"))
    assert "hello there" in written
    assert "agent=a" in written
    assert "\x1b" not in written


def test_a_file_that_cannot_be_opened_names_file_and_fix(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        logs.configure(Logging(output=str(tmp_path / "no" / "log")))
    message = str(caught.value)
    assert message == (
        f'cannot open the log file "{tmp_path}/no/log": No such file or directory; '
        "create its folder and make it writable, or set logging.output to stderr"
    )
    with pytest.raises(SetupError):
        logs.configure(Logging(output="a\0b"))


def test_the_standard_library_logs_to_the_same_output(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.configure(Logging(level="debug", format="json", output=str(path)))
    logging.getLogger("some.package").info("%s things", 3)
    logging.getLogger("httpx2").info("request")
    logging.getLogger("asyncio").debug("selector")
    logging.getLogger("asyncio").warning("slow callback")
    assert [(line["event"], line["logger"], line["level"]) for line in lines(path)] == [
        ("3 things", "some.package", "info"),
        ("slow callback", "asyncio", "warning"),
    ]


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Logging(output="stderr"))
    logs.logger("test.escape").warning("refused", host="a\x1b[31m\nb", path="/ü")
    written = capsys.readouterr().err
    assert "\x1b" not in written
    assert written.count("\n") == 1
    assert "\\x1b[31m" in written
    assert "/ü" in written


@pytest.mark.parametrize("form", ["console", "json"])
def test_exceptions_are_written_with_their_origin(tmp_path: Path, form: str) -> None:
    path = tmp_path / "log"
    logs.configure(Logging.model_validate({"format": form, "output": str(path)}))
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logs.logger("test.exception").exception("task failed")
    assert "RuntimeError: boom" in path.read_text()
    assert "task failed" in path.read_text()


def test_a_broken_destination_does_not_break_the_caller() -> None:
    class Full:
        def write(self, _text: str) -> None:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            self.write("")

        def isatty(self) -> bool:
            return False

    logs.configure(Logging())
    full: Any = Full()
    logs.SINK.redirect(full, owned=False)
    logs.logger("test.full").info("lost")


def test_a_filtered_call_is_cheap() -> None:
    logs.configure(Logging())
    log = logs.logger("test.cheap")
    log.debug("warm up")
    once = (
        min(timeit.repeat(lambda: log.debug("frame", stream=1), number=10_000, repeat=5)) / 10_000
    )
    assert once < 20e-6  # about 0.4 µs; the margin is for a busy machine under a tracer


def test_events_before_configure_after_close_go_to_stderr(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    logs.configure(Logging(output=str(tmp_path / "log")))
    logs.close()
    logs.SINK.write("late\n")
    assert capsys.readouterr().err == "late\n"
    assert sys.stderr is not None
