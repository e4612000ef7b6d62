"""Tests of zerotrust.cli.bench."""

import subprocess
import sys

import pytest

from zerotrust.cli import bench
from zerotrust.cli.main import status


def test_without_its_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "PACKAGES", ("picows", "no_such_package"))
    assert status(["bench"]) == 1
    assert capsys.readouterr().err == "error: the benchmark needs further packages: pip install '0trust[bench]'\n"


def test_help_needs_none_of_them() -> None:
    code = f"""
import sys
from zerotrust.cli.main import status
assert status(["bench", "--help"]) == 0
heavy = {{*{bench.PACKAGES!r}, "zerotrust.bench"}} & set(sys.modules)
sys.exit(f"imported: {{sorted(heavy)}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--peer NAME=URL" in done.stdout


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--seconds", "0"], ["--backend", "x"]])
def test_a_wrong_command_line(words: list[str]) -> None:
    assert status(["bench", *words]) == 2
