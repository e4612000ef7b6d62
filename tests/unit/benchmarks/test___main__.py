"""Tests of benchmarks.__main__."""

import pytest

from zerotrust.cli.main import status_of


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--seconds", "0"], ["--backend", "x"]])
def test_a_wrong_command_line(words: list[str]) -> None:
    assert status_of("benchmarks.__main__", words, prog_name="python -m benchmarks") == 2
