"""Empty databases: a SQLite file, and PostgreSQL started by the tests."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

_POSTGRESQL = (pytest.mark.xdist_group("postgresql"), pytest.mark.slow)
KINDS = ["sqlite", pytest.param("postgresql", marks=_POSTGRESQL)]


class Cluster:
    """PostgreSQL on a Unix socket in a temporary folder, without passwords and fsync."""

    def __init__(self) -> None:
        programs = _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="0trust-pg-", dir="/tmp"))
        self._url = f"postgresql://postgres@/postgres?host={self._folder}"
        self._names = count(1)
        self._become = become = ["setpriv", "--pdeathsig=INT"]
        if os.geteuid() == 0:
            user = _unprivileged()
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            become += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        subprocess.run(
            [
                *become,
                programs / "initdb",
                "-D",
                self._folder / "data",
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
            ],
            check=True,
            capture_output=True,
            cwd=self._folder,
        )
        self.start()

    def start(self) -> None:
        """Start PostgreSQL again after `stop`."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._become,
                    _programs() / "postgres",
                    "-D",
                    self._folder / "data",
                    "-k",
                    self._folder,
                    "-c",
                    "listen_addresses=",
                    "-F",
                ],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end_at = time.monotonic() + 15
        while not self._answers():
            assert time.monotonic() < end_at, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop PostgreSQL: connections end, new ones are refused."""
        self._process.send_signal(signal.SIGINT)  # fast shutdown: does not wait for clients
        self._process.wait(10)

    def new(self) -> str:
        """Return the URL of an empty database: a new schema, which costs no files."""
        name = f"test_{next(self._names)}"
        with psycopg.connect(self._url) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{self._url}&options=-csearch_path%3D{name}"

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self._url):
            return True
        return False


def _programs() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    program = found[-1] if found else shutil.which("initdb")
    assert program, "the tests need PostgreSQL: apt-get install postgresql"
    return Path(program).parent


def _unprivileged() -> pwd.struct_passwd:
    """Return the user to run PostgreSQL as: it refuses to run as root."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    cluster: Cluster = request.getfixturevalue("postgresql")
    return cluster.new()
