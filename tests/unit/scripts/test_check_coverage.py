"""Tests of scripts.check_coverage."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import check_coverage
from scripts.check_coverage import ROOMS, by_room, main

SOURCE = Path(__file__).parents[3] / "src" / "zerotrust"


def file(
    lines: tuple[int, int],
    branches: tuple[int, int] = (0, 0),
    missing_lines: list[int] | None = None,
    missing_branches: list[list[int]] | None = None,
) -> dict[str, Any]:
    """A file of a report: each pair is covered, total."""
    return {
        "summary": {
            "covered_lines": lines[0],
            "num_statements": lines[1],
            "covered_branches": branches[0],
            "num_branches": branches[1],
        },
        "missing_lines": missing_lines or [],
        "missing_branches": missing_branches or [],
    }


@pytest.fixture(autouse=True)
def two_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_coverage, "ROOMS", {"errors": 100, "net": 90})


def check(tmp_path: Path, files: dict[str, Any]) -> int:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"files": files}))
    return main(report)


def test_a_room_is_all_files_of_a_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "src/zerotrust/__init__.py": file((0, 1)),
        "src/zerotrust/errors.py": file((10, 10)),
        "src/zerotrust/net/tls.py": file((100, 100), (9, 10)),
        "src/zerotrust/net/deep/loop.py": file((80, 100), (10, 10)),
    }
    assert check(tmp_path, files) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "errors         100.0     100.0     100",
        "net             90.0      95.0      90",
    ]


def test_what_is_missing_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "src/zerotrust/errors.py": file(
            (5, 9), (0, 4), [2, 3, 4, 8], [[3, 5], [6, 8], [6, 9], [7, -1]]
        ),
        "src/zerotrust/net/tls.py": file((99, 100), (9, 10), [7]),
    }
    assert check(tmp_path, files) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "errors          55.5       0.0     100  FAILED",
        "    src/zerotrust/errors.py: 2-4, 8, 6->9, 7->exit",
        "net             99.0      90.0      90",
    ]


@pytest.mark.parametrize("lines,branches", [((899, 1000), (10, 10)), ((10, 10), (899, 1000))])
def test_lines_and_branches_each_need_the_number(
    lines: tuple[int, int], branches: tuple[int, int], tmp_path: Path
) -> None:
    files = {"zerotrust/errors.py": file((1, 1)), "zerotrust/net/tls.py": file(lines, branches)}
    assert check(tmp_path, files) == 1


def test_nearly_all_is_not_shown_as_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "zerotrust/errors.py": file((9999, 10000), missing_lines=[1]),
        "zerotrust/net/tls.py": file((1, 1)),
    }
    assert check(tmp_path, files) == 1
    assert "errors          99.9" in capsys.readouterr().out


def test_a_room_without_files_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, {"src/zerotrust/errors.py": file((1, 1))}) == 1
    assert "net: no file in" in capsys.readouterr().out


def test_a_room_without_a_number_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("errors", "net/tls", "fresh/start")
    assert check(tmp_path, {f"src/zerotrust/{name}.py": file((1, 1)) for name in names}) == 1
    assert "fresh: not in ROOMS" in capsys.readouterr().out


def test_a_part_counts_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else tests of the rest hide what is missing in it."""
    monkeypatch.setattr(check_coverage, "ROOMS", {"server": 90, "server.access": 90})
    files = {
        "zerotrust/server/app.py": file((1000, 1000)),
        "zerotrust/server/ops/admin.py": file((1000, 1000)),
        "zerotrust/server/access/people.py": file((89, 100)),
    }
    assert check(tmp_path, files) == 1
    files["zerotrust/server/access/people.py"] = file((90, 100))
    assert check(tmp_path, files) == 0
    files["zerotrust/server/app.py"] = file((700, 1000))
    assert check(tmp_path, files) == 1


def test_each_room_of_the_package_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_coverage, "ROOMS", ROOMS)
    paths = [str(path.relative_to(SOURCE.parent)) for path in SOURCE.rglob("*.py")]
    assert set(by_room(dict.fromkeys(paths, file((1, 1))))) == set(ROOMS)
