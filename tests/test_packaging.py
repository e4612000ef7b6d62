"""Tests of what surrounds the package: wheel, workflows, locks."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

import hatch_build

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github").rglob("*.yml"))


def load(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_the_wheel_is_typed_and_has_the_pages(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    environment = {"ZEROTRUST_COMPILE": "0", "PATH": "/usr/bin:/bin"}
    subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = set(wheel.namelist())
    assert "zerotrust/py.typed" in packed
    pages = ROOT / "src" / "zerotrust" / "server" / "portal"
    for folder in ("templates", "static"):
        files = {str(path.relative_to(ROOT / "src")) for path in (pages / folder).iterdir()}
        assert files and files <= packed


def test_a_wheel_is_built_where_nothing_can_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """mypyc leaves by sys.exit when types do not fit, which is not an `Exception`."""
    warnings: list[str] = []
    app = SimpleNamespace(display_warning=warnings.append)
    hook = hatch_build.DataPath(str(ROOT), {}, None, None, "", "wheel", app)  # type: ignore[arg-type]

    def fail(*_: object) -> None:
        raise SystemExit("types do not fit")

    monkeypatch.setattr(hatch_build, "compile_modules", fail)
    monkeypatch.delenv("ZEROTRUST_COMPILE", raising=False)
    hook.initialize("standard", {})
    assert warnings == ["the data path is not compiled, which costs speed: types do not fit"]
    monkeypatch.setenv("ZEROTRUST_COMPILE", "1")
    with pytest.raises(SystemExit):
        hook.initialize("standard", {})


def test_all_pythons_that_the_project_names_are_tested_and_have_wheels() -> None:
    named = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["project"]["classifiers"]))
    assert (
        load(ROOT / ".github/workflows/test.yml")["jobs"]["unit"]["strategy"]["matrix"]["python"]
        == named
    )
    wheels = PROJECT["tool"]["cibuildwheel"]["build"].split()
    assert wheels == [f"cp{version.replace('.', '')}-*" for version in named]
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_pin_their_actions_and_may_only_read(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert re.fullmatch(r"[\w/-]+@v\d+\.\d+\.\d+", step.get("uses", "a@v1.0.0")), step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_only_targets_of_the_makefile(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", path.read_text())) <= targets


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_links_to_the_repository_lead_to_files(path: Path) -> None:
    home = PROJECT["project"]["urls"]["Homepage"]
    for file in re.findall(rf"{home}/blob/main/([\w./-]+)", path.read_text()):
        assert (ROOT / file).is_file(), file


def test_the_image_has_all_dependencies_of_the_server() -> None:
    """The Dockerfile installs the project itself with --no-deps."""
    project = PROJECT["project"]
    extras = [project["optional-dependencies"].get(name, []) for name in ("server", "postgresql")]
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    locked = set(
        re.findall(r"^([\w.-]+)==", (ROOT / "requirements/image.txt").read_text(), re.MULTILINE)
    )
    names = {re.split(r"[^\w.-]", line)[0].replace(".", "-") for line in wanted}
    assert names - {project["name"]} <= locked
