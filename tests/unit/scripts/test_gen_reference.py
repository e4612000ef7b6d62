"""Tests of scripts.gen_reference."""

from pathlib import Path

import pytest
from pydantic import Field

from scripts.gen_reference import PAGES, key_table, write
from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import Duration, HostName, Model
from zerotrust.model.middleware import KINDS
from zerotrust.model.server import ServerConfig

FOLDER = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_pages_are_those_of_the_models(name: str) -> None:
    checked_in = (FOLDER / name).read_text(encoding="utf-8")
    assert checked_in == PAGES[name](), "models have changed: run python scripts/gen_reference.py"


class Base(Model):
    first: str
    """Docstring of the base."""


class Example(Base):
    many: list[HostName] = Field(default_factory=list)
    """Several
    lines."""

    wait: Duration = Field(default=90.0, le=300.0)
    either: str | int | None = None
    weight: int = Field(default=5, ge=1, le=1_000, description="From a | description.")
    own: bool = True


def test_the_table_of_a_model() -> None:
    assert key_table(Example).splitlines()[2:] == [
        "| `first` | text | required | Docstring of the base. |",
        "| `many` | list of host name |  | Several lines. |",
        "| `wait` | duration, at most 5m | `90s` |  |",
        "| `either` | text or whole number |  |  |",
        "| `weight` | whole number, 1 to 1,000 | `5` | From a \\| description. |",
        "| `own` | true or false | `true` |  |",
    ]


def test_each_top_level_key_is_listed() -> None:
    for model, page in ((AgentConfig, PAGES["agent.md"]()), (ServerConfig, PAGES["server.md"]())):
        for name in model.model_fields:
            assert f"| `{name}` |" in page


@pytest.mark.parametrize("name", sorted(PAGES))
def test_each_key_has_a_meaning(name: str) -> None:
    assert [
        row for row in PAGES[name]().splitlines() if row.startswith("| `") and row.endswith("|  |")
    ] == []


def test_the_introduction_names_each_handler() -> None:
    introduction = PAGES["agent.md"]().partition("## Handlers")[2].partition("###")[0]
    assert [kind for kind in KINDS if f"`{kind}`" not in introduction] == []


def test_the_pages_are_written(tmp_path: Path) -> None:
    write(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(PAGES)
