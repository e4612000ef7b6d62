"""Tests of the benchmark from end to end: results, cleanup, errors."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Process
from zerotrust.cli.main import status_of

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("bench"),
]

BENCHMARK = [sys.executable, "-m", "benchmarks"]
WORKLOAD = "1 KiB GET, keep-alive, 32 connections"
SHORT = ["--quick", "--only", "GET, keep-alive", "--rounds", "1", "--seconds", "0.3"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: Caddy's socket is deep below it. Its processes name it in their arguments."""
    with tempfile.TemporaryDirectory(prefix="t-") as name:
        yield Path(name)


def left_behind(folder: Path) -> list[str]:
    """Return processes below the folder, and files, that a run should have removed."""
    found = [str(path) for path in folder.glob("0trust-bench-*")]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((entry / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        if (
            f"TMPDIR={folder}".encode() in environment.split(b"\0")
            and int(entry.name) != os.getpid()
        ):
            found.append(command.replace(b"\0", b" ").decode())
    return found


def bench(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BENCHMARK, *words, "--out", folder / "results"],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )


def results(folder: Path) -> Any:
    return json.loads((folder / "results" / "latest.json").read_text())


def test_a_short_run_and_its_results(folder: Path) -> None:
    """With a ratio of an earlier run that it reaches; tests/unit/benchmarks has one that fell."""
    rate_before = {"workload": WORKLOAD, "measure": "requests/s", "ratio": 0.001}
    earlier = {"settings": {"quick": True}, "workloads": [rate_before]}
    (folder / "baseline.json").write_text(json.dumps(earlier))
    done = bench(folder, *SHORT, "--check", folder / "baseline.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no ratio fell" in done.stdout
    assert WORKLOAD in done.stdout
    found = results(folder)
    assert found["settings"] == {
        "quick": True,
        "rounds": 1,
        "seconds": 0.3,
        "backend": found["settings"]["backend"],
    }
    assert found["machine"]["cpus"] == os.cpu_count()
    by_measure = {one["measure"]: one for one in found["workloads"]}
    rate = by_measure["requests/s"]
    assert rate["ours"] > 50
    assert rate["baseline"] > 50
    assert rate["ratio"] == pytest.approx(rate["ours"] / rate["baseline"], rel=0.01)
    assert set(rate["others"]) == {"0Trust without Caddy", "backend alone"}
    assert 0 < by_measure["p50"]["ours"] <= by_measure["p99"]["ours"]
    assert 0 < by_measure["CPU of the server"]["ours"] < 10_000
    assert 0 < by_measure["CPU of the agent"]["ours"] < 10_000
    assert (folder / "results" / "ratios.svg").read_text().startswith("<svg ")
    assert left_behind(folder) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--only", "nothing of the kind"],
            'error: --only "nothing of the kind": no workload has this in its name\n',
        ),
        (
            ["--check", "/no/such"],
            "error: /no/such: cannot be read: No such file or directory; `make bench` writes",
        ),
        (
            ["--peer", "frp"],
            "error: a peer has to know the backend before we start: add --backend PORT",
        ),
    ],
)
def test_errors_are_one_line(
    folder: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words, "--out", str(folder / "results")]
    assert status_of("benchmarks.__main__", words, prog_name="python -m benchmarks") == 1
    printed = capsys.readouterr().err
    assert printed.startswith(said)
    assert printed.count("\n") == 1


async def test_nothing_is_left_after_ctrl_c(folder: Path) -> None:
    command: list[str | Path] = [*BENCHMARK, "--quick", "--out", folder / "results"]
    async with Process(
        "bench", command, log=folder / "bench.log", env={"TMPDIR": str(folder)}
    ) as process:
        await process.wait_line("backends: ", timeout=60)
        assert len(left_behind(folder)) > 5
        process.send_signal(signal.SIGINT)
        assert await process.wait_exit(30) == 130
        assert left_behind(folder) == []
        assert "Traceback" not in process.text()
