"""Tests of zerotrust.config.secret_files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest
from pydantic import Field

from zerotrust.config.document import Source
from zerotrust.config.secret_files import LARGEST, inline_files
from zerotrust.model.base import Model


class Lock(Model):
    secret: str = ""
    secret_file: str | None = None
    key_file: str | None = None

    @property
    def files(self) -> dict[str, str]:
        return {key: name for key in ("secret_file", "key_file") if (name := getattr(self, key))}

    def with_files(self, contents: Mapping[str, bytes]) -> Self:
        if contents.get("bad") is not None:
            raise ValueError("key_file bad: not a key")
        return self.model_copy(update={"secret": b"".join(contents.values()).decode().strip()})


class Door(Model):
    lock: Lock | None = None


class House(Model):
    doors: list[Door] = Field(default_factory=list)
    name: str = ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good").write_text("pass phrase\n")
    (tmp_path / "good").chmod(0o600)
    (tmp_path / "bad").write_text("x")
    (tmp_path / "open").write_text("known to all")
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "blank").write_text(" \n")
    (tmp_path / "large").write_bytes(b"x" * (LARGEST + 1))
    (tmp_path / "large").chmod(0o600)
    return tmp_path


def attached(folder: Path, lock: dict[str, str]) -> tuple[House, list[str], list[Path]]:
    text = f"name: x\ndoors:\n  - {{}}\n  - lock: {lock}\n"
    path = folder / "house.yaml"
    path.write_text(text)
    source = Source(path, overrides={}, variables={})
    house, files = inline_files(source, House.model_validate(source.data))
    return house, [f"{p.severity}: {p}".replace(f"{path}:", "") for p in source.problems], files


def test_contents_come_into_the_configuration(folder: Path) -> None:
    house, messages, files = attached(folder, {"secret_file": "good"})
    assert messages == []
    assert files == [folder / "good"]
    assert house.doors[1].lock is not None
    assert house.doors[1].lock.secret == "pass phrase"
    assert house.doors[0].lock is None
    assert house.name == "x"


def test_without_files_nothing_is_copied(folder: Path) -> None:
    source = Source(folder / "good", overrides={}, variables={})
    house = House(doors=[Door(lock=Lock(secret="x"))])
    assert inline_files(source, house) == (house, [])
    assert inline_files(source, house)[0] is house


@pytest.mark.parametrize(
    ("lock", "message"),
    [
        (
            {"secret_file": "no"},
            "error: 4:27: doors[1].lock.secret_file: no cannot be read: No such file or directory;",
        ),
        (
            {"secret_file": "."},
            "error: 4:27: doors[1].lock.secret_file: . cannot be read: Is a directory;",
        ),
        ({"secret_file": "blank"}, "error: 4:27: doors[1].lock.secret_file: blank is empty"),
        (
            {"secret_file": "large"},
            "error: 4:27: doors[1].lock.secret_file: large is larger than 1 MiB",
        ),
        ({"key_file": "bad"}, "error: 4:24: doors[1].lock.key_file: key_file bad: not a key"),
        (
            {"secret_file": "open"},
            (
                "warning: 4:27: doors[1].lock.secret_file: all users of this machine can read open:"
                " run chmod o-rwx open"
            ),
        ),
    ],
)
def test_unusable_files_are_reported(folder: Path, lock: dict[str, str], message: str) -> None:
    _, messages, _ = attached(folder, lock)
    assert len(messages) == 1
    assert messages[0].startswith(message)


def test_public_keys_may_be_readable_by_all(folder: Path) -> None:
    assert attached(folder, {"key_file": "open"})[1] == []


def test_an_impossible_file_name(folder: Path) -> None:
    source = Source(folder / "good", overrides={}, variables={})
    inline_files(source, House(doors=[Door(lock=Lock(secret_file="a\0b"))]))
    assert "embedded null byte" in str(source.problems[-1])
