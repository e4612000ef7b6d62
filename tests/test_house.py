"""The house: every test file mirrors a source file, and no room has a name without a door."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "zerotrust"
UNIT = ROOT / "tests" / "unit"

DOORLESS = {"utils", "util", "helpers", "helper", "common", "core", "misc", "manager"}


def modules(top: Path) -> set[Path]:
    return {path.relative_to(top) for path in top.rglob("*.py") if path.name not in ("__init__.py", "conftest.py")}


def test_every_unit_test_file_mirrors_a_source_file() -> None:
    sources = modules(SOURCE)
    strays = {
        test
        for test in modules(UNIT)
        if test.name.startswith("test_") and test.with_name(test.name.removeprefix("test_")) not in sources
    }
    assert not strays


def test_every_machine_has_a_test_file() -> None:
    machines = {
        path
        for room in ("tunnel", "http", "model", "config", "pki")
        for path in modules(SOURCE)
        if path.parts[0] == room
    }
    tested = {test.with_name(test.name.removeprefix("test_")) for test in modules(UNIT)}
    untested = {
        m
        for m in machines - tested
        if any(isinstance(n, ast.FunctionDef) for n in ast.walk(ast.parse((SOURCE / m).read_text())))
    }
    assert not untested


def test_no_room_without_a_door() -> None:
    assert not {path for path in modules(SOURCE) if set(path.with_suffix("").parts) & DOORLESS}


def test_every_module_says_what_it_is() -> None:
    silent = {path for path in SOURCE.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))}
    assert not silent


def test_package_files_only_hand_on_names() -> None:
    for path in SOURCE.rglob("__init__.py"):
        body = ast.parse(path.read_text()).body
        assert all(isinstance(node, (ast.Expr, ast.Assign, ast.Import, ast.ImportFrom)) for node in body), path
