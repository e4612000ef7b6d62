"""Tests of benchmarks.app: the exit status of a run, with metrics that nothing measured."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import app
from benchmarks.metrics import Metric, compare
from benchmarks.workloads.registry import Workload
from zerotrust.cli.main import status_of

GET = "1 KiB GET, keep-alive, 32 connections"


class _Environment:
    """Environment without processes."""

    backend_name = "none"


@contextlib.asynccontextmanager
async def environment(*_: object) -> AsyncIterator[_Environment]:
    yield _Environment()


async def measured(_: Any, name: str) -> list[Metric]:
    """Return a rate and a latency at half of the baseline."""
    rate = compare(name, "requests/s", "/s", ours=[500.0], baseline=[1000.0])
    latency = compare(name, "p99", "ms", ours=[2.0], baseline=[1.0], higher_is_better=False)
    return [rate, latency]


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "Environment", environment)
    monkeypatch.setattr(app, "chosen", lambda **_: [Workload(GET, measured)])


def run(folder: Path, *words: str) -> int:
    words = ("--quick", "--out", str(folder / "results"), *words)
    return status_of("benchmarks.__main__", list(words), prog_name="python -m benchmarks")


def baseline(folder: Path, rate: float) -> str:
    """Write the results of an earlier run; return the name of the file."""
    measures = (("requests/s", rate), ("p99", 0.001))
    workloads = [{"workload": GET, "measure": name, "ratio": ratio} for name, ratio in measures]
    file = folder / "baseline.json"
    file.write_text(json.dumps({"settings": {"quick": True}, "workloads": workloads}))
    return str(file)


def test_a_ratio_that_fell_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--check", baseline(tmp_path, 1000.0)) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    fell = [line for line in printed.out.splitlines() if line.startswith("FELL: ")]
    assert len(fell) == 1
    assert "requests/s: the ratio fell from 1000.00 to 0.50" in fell[0]
    assert f"{GET}, requests/s" in printed.out.splitlines()[1], "it was measured twice"


def test_a_ratio_that_did_not_fall(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--check", baseline(tmp_path, 0.5)) == 0
    assert "no ratio fell by more than 10%" in capsys.readouterr().out
