"""`pip install 0trust` is enough for an agent. Commands of the server name what they miss."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

pytestmark = [pytest.mark.component, pytest.mark.timeout(120)]

SERVER_ONLY = ("alembic", "argon2", "bcrypt", "publicsuffixlist", "sqlalchemy")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the locked packages of an agent and no others."""
    uv = Path(sys.executable).with_name("uv")
    folder = tmp_path_factory.mktemp("agent") / "venv"
    made = folder / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    lock = ROOT / "requirements" / "agent.txt"
    install: list[str | Path] = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        made,
        "--require-hashes",
        "-r",
        lock,
    ]
    # `make test` installed the same files, so they are in uv's cache; else they are downloaded.
    if subprocess.run([*install, "--offline"], capture_output=True, check=False).returncode:
        subprocess.run(install, check=True)
    return made


def run(python: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env = clean | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [python, *words], capture_output=True, text=True, check=False, env=env, timeout=60
    )


def test_the_packages_of_a_server_are_not_there(python: Path) -> None:
    code = (
        "import importlib.util, sys; print([n for n in sys.argv[1:] if"
        " importlib.util.find_spec(n)])"
    )
    assert run(python, "-c", code, *SERVER_ONLY).stdout == "[]\n"


@pytest.mark.parametrize(
    "words", ["", "agent run", "agent join", "agents list", "server run", "config check"]
)
def test_help(python: Path, words: str) -> None:
    done = run(python, "-m", "zerotrust", *words.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ["server run", "server install"])
def test_a_server_needs_more_packages_and_says_which(python: Path, words: str) -> None:
    done = run(python, "-m", "zerotrust", *words.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("install them with: pip install '0trust[server]'\n")
    assert done.stderr.count("\n") == 1


def test_an_agent_needs_no_more(python: Path, tmp_path: Path) -> None:
    """Every module of the agent can be imported, and imports nothing of the server."""
    code = (
        "import importlib, pkgutil, sys, zerotrust.agent as agent\nfor room in ('agent',"
        " 'balancing', 'config', 'net', 'pki', 'telemetry', 'tunnel'):\n    package ="
        " importlib.import_module('zerotrust.' + room)\n    for found in"
        " pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n       "
        " importlib.import_module(found.name)\nimport zerotrust.agent.app, zerotrust.agent.join,"
        " zerotrust.cli.join, zerotrust.cli.agent\nserver = ('zerotrust.caddy', 'zerotrust.db',"
        " 'zerotrust.enrollment', 'zerotrust.server')\nprint([name for name in sys.modules if"
        " name.startswith(server)])\n"
    )
    done = run(python, "-c", code)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    file = tmp_path / "agent.yaml"
    file.write_text("agent_id: home\nserver: {address: 'tunnel.example.com:8443'}\nservices: []\n")
    checked = run(python, "-m", "zerotrust", "config", "check", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
