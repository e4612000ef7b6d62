"""Tests of scripts.gen_reference."""

from pathlib import Path

import pytest
from pydantic import Field

from scripts.gen_reference import PAGES, _table, write
from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import Duration, HostName, Model
from zerotrust.model.middleware import KINDS
from zerotrust.model.server import ServerConfig

FOLDER = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_pages_say_what_the_models_say(name: str) -> None:
    checked_in = (FOLDER / name).read_text(encoding="utf-8")
    assert checked_in == PAGES[name](), "models have changed: run python scripts/gen_reference.py"


class Base(Model):
    first: str
    """What the base says."""


class Example(Base):
    many: list[HostName] = Field(default_factory=list)
    """Several
    of them."""

    wait: Duration = Field(default=90.0, le=300.0)
    either: str | int | None = None
    weight: int = Field(default=5, ge=1, le=1_000, description="Said | elsewhere.")
    own: bool = True


def test_a_table() -> None:
    assert _table(Example).splitlines()[2:] == [
        "| `first` | text | required | What the base says. |",
        "| `many` | list of host name |  | Several of them. |",
        "| `wait` | duration, at most 5m | `90s` |  |",
        "| `either` | text or whole number |  |  |",
        "| `weight` | whole number, 1 to 1,000 | `5` | Said \\| elsewhere. |",
        "| `own` | true or false | `true` |  |",
    ]


def test_each_key_of_a_root_is_there() -> None:
    for model, page in ((AgentConfig, PAGES["agent.md"]()), (ServerConfig, PAGES["server.md"]())):
        for name in model.model_fields:
            assert f"| `{name}` |" in page


@pytest.mark.parametrize("name", sorted(PAGES))
def test_each_key_has_a_meaning(name: str) -> None:
    assert [row for row in PAGES[name]().splitlines() if row.startswith("| `") and row.endswith("|  |")] == []


def test_each_handler_runs_somewhere() -> None:
    _, _, handlers = PAGES["agent.md"]().partition("## Handlers")
    (line,) = [line for line in handlers.splitlines() if line.startswith("At the server, before the tunnel, run")]
    assert [kind for kind in KINDS if f"`{kind}`" not in line] == []


def test_they_are_written(tmp_path: Path) -> None:
    write(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(PAGES)
