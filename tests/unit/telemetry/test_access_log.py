"""Tests of zerotrust.telemetry.access_log."""

import json
import os
import random
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.telemetry.finished_requests import finished, sampled
from zerotrust.errors import SetupError
from zerotrust.model.access_log import AccessLog
from zerotrust.telemetry import access_log
from zerotrust.telemetry.access_log import AccessLogWriter, console_line, fields_of, json_line


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "INTERVAL", 0.01)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for(reached: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < ends_at, "not reached in 10 s"
        time.sleep(0.005)


def test_the_time_at_the_edge_is_not_part_of_the_duration() -> None:
    fields = fields_of(finished(edge_time=0.0123456), query=False)
    assert (fields["edge"], fields["duration"]) == (0.012346, 0.5)
    assert "edge" not in fields_of(finished(), query=False)


def test_a_line_has_all_that_is_known() -> None:
    fields = fields_of(finished(), query=False)
    assert fields == {
        "time": "1970-01-01T00:00:01.000Z",
        "request": "1f-2a",
        "client": "203.0.113.7",
        "method": "GET",
        "scheme": "https",
        "host": "app.example.com",
        "path": "/a",
        "status": 200,
        "received": 0,
        "sent": 5,
        "duration": 0.5,
        "policy": 0.1,
        "tunnel": 0.05,
        "connect": 0.05,
        "backend": 0.2,
        "body": 0.1,
        "agent": "home",
        "service": "app",
        "upstream": "10.0.0.5:80",
        "ended_by": "backend",
    }
    assert json.loads(json_line(fields)) == fields


def test_a_line_has_what_is_rare() -> None:
    record = finished(
        waited=0.05, tries=2, subject="user:anna", error="agent_lost", trace=sampled()
    )
    fields = fields_of(record, query=True)
    assert fields["query"] == "token=secret"
    assert (fields["wait"], fields["tries"], fields["subject"]) == (0.05, 2, "user:anna")
    assert (fields["error"], fields["trace"]) == ("agent_lost", f"{0xABC:032x}")


def test_a_request_without_an_answer() -> None:
    record = finished(status=0, agent="", answered_at=0.0, queued=-1.0, backend_time=-1.0)
    fields = fields_of(record, query=False)
    assert fields["status"] == 0
    assert not {"tunnel", "connect", "backend", "body", "agent"} & set(fields)


def test_a_line_for_people() -> None:
    line = console_line(fields_of(finished(subject='user:a "b'), query=True))
    assert line.startswith(
        "1970-01-01T00:00:01.000Z 200 GET https://app.example.com/a?token=secret request=1f-2a"
    )
    assert "duration=0.500" in line and r'subject="user:a \"b"' in line


@given(st.binary(max_size=80), st.text(max_size=80), st.text(max_size=40))
def test_no_text_of_strangers_breaks_a_line(target: bytes, upstream: str, host: str) -> None:
    fields = fields_of(finished(target, upstream=upstream, host=host), query=True)
    for line in (json_line(fields), console_line(fields)):
        assert line.isprintable()
        assert len(line.splitlines()) == 1
    assert json_line(fields).isascii()


def test_lines_go_to_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = AccessLogWriter(AccessLog(output=str(path)))
    for number in range(40):
        writer.add(finished(b"/%d" % number))
    writer.close()
    assert [line["path"] for line in written(path)] == [f"/{number}" for number in range(40)]
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


def test_lines_are_written_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = AccessLogWriter(AccessLog(output=str(path), format="console"))
    writer.add(finished())
    wait_for(lambda: path.stat().st_size > 0)
    writer.reconfigure(AccessLog(output=str(path), format="json"))
    writer.add(finished(b"/later"))
    writer.close()
    first, second = path.read_text().splitlines()
    assert "GET https://" in first and json.loads(second)["path"] == "/later"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_lines_go_to_a_stream(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    writer = AccessLogWriter(AccessLog(output=name))
    writer.add(finished())
    writer.close()
    assert json.loads(getattr(capsys.readouterr(), "out" if name == "stdout" else "err"))


def test_a_full_file_is_renamed(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = AccessLogWriter(AccessLog(output=str(path), max_size="64KiB", keep=2))
    for _ in range(4):
        for number in range(150):
            writer.add(finished(b"/%d" % number + b"a" * 200))
        wait_for(lambda: not writer.waiting)
    writer.close()
    names = {one.name for one in tmp_path.iterdir()}
    assert names == {"access.log", "access.log.1", "access.log.2"}
    assert written(path)[-1]["path"].startswith("/149")


def test_a_full_queue_loses_lines_and_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "MAX_QUEUED", 3)
    monkeypatch.setattr(access_log, "INTERVAL", 60.0)
    writer = AccessLogWriter(AccessLog(output=str(tmp_path / "log")))
    for _ in range(5):
        writer.add(finished())
    assert writer.lost["queue"] == 2
    writer.close()
    assert len(written(tmp_path / "log")) == 3


def test_a_full_disk_loses_lines_and_counts_them() -> None:
    writer = AccessLogWriter(AccessLog(output="/dev/full", max_size="0"))
    writer.add(finished())
    wait_for(lambda: writer.lost["output"] == 1)
    writer.add(finished())
    writer.close()
    assert writer.lost == {"queue": 0, "output": 2}


def test_a_sample_keeps_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    writer = AccessLogWriter(AccessLog(output=str(path), sample=0.25))
    chances = iter([0.2, 0.3, 0.9])
    monkeypatch.setattr(random, "random", lambda: next(chances))
    for name in (b"/kept", b"/left", b"/left"):
        writer.add(finished(name))
    writer.add(finished(b"/failed", status=502))
    writer.close()
    assert [line["path"] for line in written(path)] == ["/kept", "/failed"]


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    threads = threading.active_count()
    with pytest.raises(SetupError, match=r"access_log\.output: cannot open .*No such file"):
        AccessLogWriter(AccessLog(output=str(tmp_path / "no" / "log")))
    with pytest.raises(SetupError, match="null byte"):
        AccessLogWriter(AccessLog(output="a\0b"))
    assert threading.active_count() <= threads  # one of an earlier test may end now


def test_a_fifo_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(SetupError, match='fifo" is a FIFO'):
        AccessLogWriter(AccessLog(output=str(fifo)))


def test_another_output_needs_another_writer(tmp_path: Path) -> None:
    settings = AccessLog(output=str(tmp_path / "log"))
    writer = AccessLogWriter(settings)
    assert writer.has_output_of(settings.model_copy(update={"query": True, "sample": 0.5}))
    for other in ({"output": "stdout"}, {"max_size": "1MiB"}, {"keep": 1}):
        assert not writer.has_output_of(settings.model_copy(update=other))
    writer.close()
