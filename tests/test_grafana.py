"""The dashboard for Grafana has the form that Grafana imports, and asks for metrics that exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

ROOT = Path(__file__).parent.parent
FILE = ROOT / "contrib" / "grafana" / "0trust.json"
SOURCE = ROOT / "src" / "zerotrust"


class Part(BaseModel):
    """A part of the dashboard; a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class DataSource(Part):
    type: Literal["prometheus"]
    uid: Literal["${DS_PROMETHEUS}"]


class GridPos(Part):
    h: int = Field(ge=1)
    w: int = Field(ge=1, le=24)
    x: int = Field(ge=0, le=23)
    y: int = Field(ge=0)


class Target(Part):
    ref_id: str
    datasource: DataSource
    expr: str
    legend_format: str
    instant: bool = False
    range: bool = True


class Panel(Part):
    id: int
    type: Literal["row", "stat", "timeseries"]
    title: str = Field(min_length=1)
    grid_pos: GridPos
    description: str = ""
    datasource: DataSource | None = None
    field_config: dict[str, Any] = {}
    options: dict[str, Any] = {}
    targets: list[Target] = []
    collapsed: bool = False
    panels: list[Any] = Field([], max_length=0)


class Variable(Part):
    name: str
    label: str
    type: Literal["query"]
    datasource: DataSource
    query: dict[str, str]
    definition: str
    refresh: int
    include_all: bool
    multi: bool
    all_value: str
    current: dict[str, Any]
    sort: int
    hide: int
    options: list[Any]


class Variables(Part):
    list: list[Variable]


class Dashboard(Part):
    """The keys of Grafana's dashboard model that the file uses."""

    inputs: list[dict[str, str]] = Field(alias="__inputs")
    requires: list[dict[str, str]] = Field(alias="__requires")
    id: None
    uid: str
    title: str
    description: str
    tags: list[str]
    schema_version: int = Field(ge=36)
    version: int
    editable: bool
    timezone: str
    refresh: str
    time: dict[str, str]
    templating: Variables
    annotations: dict[str, list[Any]]
    links: list[Any]
    panels: list[Panel]


@pytest.fixture(scope="module")
def dashboard() -> Dashboard:
    return Dashboard.model_validate(json.loads(FILE.read_text()))


def expressions(dashboard: Dashboard) -> Iterator[str]:
    for panel in dashboard.panels:
        assert bool(panel.targets) == (panel.type != "row")
        yield from (target.expr for target in panel.targets)
    yield from (variable.definition for variable in dashboard.templating.list)


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard: Dashboard) -> None:
    assert len({panel.id for panel in dashboard.panels}) == len(dashboard.panels)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.panels:
        place = panel.grid_pos
        cells = {
            (x, y)
            for x in range(place.x, place.x + place.w)
            for y in range(place.y, place.y + place.h)
        }
        assert not cells & taken, panel.title
        assert all(x < 24 for x, _ in cells), panel.title
        taken |= cells


def test_its_metrics_exist(dashboard: Dashboard) -> None:
    """Each name stands in the code that makes the metrics, without `zerotrust_`."""
    code = "".join(path.read_text() for path in SOURCE.rglob("*metrics.py"))
    code += (SOURCE / "server" / "ops" / "request_observers.py").read_text()
    code += (SOURCE / "telemetry" / "service_durations.py").read_text()
    code += (SOURCE / "telemetry" / "tracing.py").read_text()
    made = set(re.findall(r'"([a-z_]+)"', code))
    asked = {
        name for expr in expressions(dashboard) for name in re.findall(r"zerotrust_(\w+)", expr)
    }
    assert len(asked) > 12
    assert {re.sub(r"_bucket$", "", name) for name in asked} <= made


def test_its_variables_exist(dashboard: Dashboard) -> None:
    known = {variable.name for variable in dashboard.templating.list}
    used = {name for expr in expressions(dashboard) for name in re.findall(r"\$(\w+)", expr)}
    assert used - {"__rate_interval"} == known


def test_its_expressions_are_balanced(dashboard: Dashboard) -> None:
    for expr in expressions(dashboard):
        plain = re.sub(r'"[^"]*"', "", expr)
        for opening, closing in ("()", "{}", "[]"):
            assert plain.count(opening) == plain.count(closing), expr
