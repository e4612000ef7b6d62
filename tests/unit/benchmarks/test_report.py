"""Tests of benchmarks.report."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import report
from benchmarks.metrics import alone, at_least, at_most, compare
from zerotrust.errors import BenchError

FIGURES = [
    replace(
        compare(
            "GET",
            "requests/s",
            "/s",
            ours=[700.0, 750.0],
            baseline=[1000.0, 1000.0],
            others={"ssh -R": [12345.6]},
        ),
        threshold=at_least(0.7),
    ),
    replace(
        compare("GET", "p99", "ms", ours=[12.34], baseline=[4.0], higher_is_better=False),
        threshold=at_most(2.2),
    ),
    alone("Idle", "memory", "KiB", [1.5]),
]

TABLE = """\
 workload                 ours   baseline   ratio     min to max   target
 ──────────────────────────────────────────────────────────────────────────────────
 GET
   requests/s              725      1,000    0.72   0.70 to 0.75    ≥ 0.7   met
     ssh -R: 12,346
   p99                 12.3 ms    4.00 ms    3.08   3.08 to 3.08    ≤ 2.2   not met
 Idle
   memory             1.50 KiB                      1.50 to 1.50
"""


def test_the_table() -> None:
    printed = io.StringIO()
    report.show(Console(file=printed, width=100), FIGURES)
    lines = [line.rstrip() for line in printed.getvalue().splitlines() if line.strip()]
    assert lines == TABLE.splitlines()


def test_the_document() -> None:
    found = report.document(FIGURES[:1], settings={"quick": True}, machine={"cpus": 2})
    assert found == {
        "settings": {"quick": True},
        "machine": {"cpus": 2},
        "workloads": [
            {
                "workload": "GET",
                "measure": "requests/s",
                "unit": "/s",
                "ratio": 0.725,
                "ours": 725.0,
                "baseline": 1000.0,
                "spread": {
                    "ratio": [0.7, 0.75],
                    "ours": [700.0, 750.0],
                    "baseline": [1000.0, 1000.0],
                },
                "higher_is_better": True,
                "target": "≥ 0.7",
                "is_met": True,
                "others": {"ssh -R": 12350.0},
            }
        ],
    }


def test_a_figure_without_a_baseline_has_no_ratio() -> None:
    found = report.document(FIGURES[2:], settings={}, machine={})["workloads"][0]
    assert (found["ratio"], found["baseline"], found["ours"], found["is_met"]) == (
        None,
        None,
        1.5,
        None,
    )


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match="choose another folder with --out"):
        report.write(tmp_path / "file" / "x", "latest.json", "")


def test_the_folder_is_made(tmp_path: Path) -> None:
    assert report.write(tmp_path / "a" / "b", "c", "text").read_text() == "text"
