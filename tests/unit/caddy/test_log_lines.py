"""Tests of zerotrust.caddy.log_lines."""

import json

import pytest
from structlog.testing import capture_logs

from zerotrust.caddy.log_lines import merge, reason


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("debug", "debug"),
        ("info", "debug"),
        ("warn", "warning"),
        ("error", "error"),
        ("panic", "critical"),
        ("fatal", "critical"),
        ("strange", "debug"),
    ],
)
def test_levels(theirs: str, ours: str) -> None:
    with capture_logs() as lines:
        merge(
            json.dumps(
                {
                    "level": theirs,
                    "ts": 1.5,
                    "logger": "tls.obtain",
                    "msg": "hello",
                    "names": ["a.test"],
                }
            )
        )
    assert lines == [
        {"log_level": ours, "event": "hello", "source": "tls.obtain", "names": ["a.test"]}
    ]


def test_reserved_fields_are_renamed() -> None:
    with capture_logs() as lines:
        merge('{"level":"info","msg":"m","event":"e","source":"s","exc_info":1}')
    assert lines == [
        {
            "log_level": "debug",
            "event": "m",
            "source": "caddy",
            "caddy_event": "e",
            "caddy_source": "s",
            "caddy_exc_info": 1,
        }
    ]


@pytest.mark.parametrize("line", ["panic: nil map", "[1]", "7", '"x"', "{"])
def test_lines_that_are_no_json_are_kept(line: str) -> None:
    with capture_logs() as lines:
        merge(line)
    assert lines == [{"log_level": "warning", "event": "caddy output", "text": line}]


def test_the_harmless_socket_warning_is_debug() -> None:
    with capture_logs() as lines:
        merge('{"level":"warn","msg":"admin endpoint on open interface; host checking disabled"}')
    assert lines[0]["log_level"] == "debug"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Error: loading initial config: no", "loading initial config: no"),
        ("panic: nil map", "panic: nil map"),
        ("goroutine 1 [running]:", None),
        ('{"level":"error","msg":"run","error":"no"}', "run: no"),
        ('{"level":"error","msg":"run"}', "run"),
        ('{"level":"info","msg":"run"}', None),
    ],
)
def test_reasons(line: str, expected: str | None) -> None:
    assert reason(line) == expected
