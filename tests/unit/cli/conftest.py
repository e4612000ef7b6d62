"""A running server for commands: its admin channel, on a socket, in a thread."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.identities import Office, served
from zerotrust.cli.main import status


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Office]:
    with capture_logs(), served(tmp_path) as made:
        yield made


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(place: Office, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs a command against it: exit status, what it printed, what it complained about."""

    def run(*words: Any) -> tuple[int, str, str]:
        code = status([*map(str, words), "--socket", str(place.socket)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
