"""Tests of zerotrust.config.document."""

from pathlib import Path

import pytest

from zerotrust.config.document import Source


def source(tmp_path: Path, text: str, **variables: str) -> Source:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return Source(path, overrides={}, variables=variables)


def messages(found: Source) -> list[str]:
    return [f"{p.severity}: {p}".replace(f"{found.path}:", "") for p in found.problems]


def test_a_moved_key_is_reported_at_its_place_in_the_file(tmp_path: Path) -> None:
    found = source(tmp_path, "old:\n  key: {a: 1}\n")
    found.renamed["new", "name"] = ("old", "key")
    found.report(("new", "name", "a"), "error", "is wrong")
    found.report(("new", "name"), "warning", "does nothing", ineffective=True)
    assert messages(found) == [
        "error: 2:12: old.key.a: is wrong",
        "warning: 2:3: old.key: does nothing",
    ]
    assert found.ineffective == {("old", "key"): "does nothing"}


def test_an_unset_variable_is_reported_once(tmp_path: Path) -> None:
    found = source(tmp_path, "port: ${PORT}\n")
    found.report(("port",), "error", "expected a whole number")
    assert len(messages(found)) == 1
    assert "PORT is not set" in messages(found)[0]
    assert messages(source(tmp_path, "port: ${PORT}\n", PORT="1")) == []


def test_removed_items_take_their_problems_along(tmp_path: Path) -> None:
    found = source(
        tmp_path, "x:\n  - {a: 0, a: 0}\n  - {a: 1}\n  - {a: '${A}'}\n  - {a: 3}\ny: ${A}\n"
    )
    found.remove_items("x", {0, 2})
    assert found.data["x"] == [{"a": 1}, {"a": 3}]
    assert [problem.key for problem in found.problems] == ["y"]
    found.report(("x", 1, "a"), "error", "wrong")
    assert messages(found)[-1] == "error: 5:9: x[3].a: wrong"
    found.report(("x", 0), "error", "wrong")
    assert messages(found)[-1] == "error: 3:5: x[1]: wrong"


@pytest.mark.parametrize("text", ["", "# x\n", "- a\n"])
def test_a_file_without_keys_is_not_usable(tmp_path: Path, text: str) -> None:
    found = source(tmp_path, text)
    assert not found.usable
    assert len(found.errors) == 1
