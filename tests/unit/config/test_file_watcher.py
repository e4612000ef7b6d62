"""Tests of zerotrust.config.file_watcher: with real files, because what is tested is what the system tells."""

import asyncio
import os
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from zerotrust.config import file_watcher
from zerotrust.config.file_watcher import changes

DELAY = 0.05


def told(files: list[Path], act: Callable[[], None], *, quiet: bool = False) -> bool:
    """Whether a change is told after `act`; where none is expected, half a second is waited for it."""

    async def run() -> bool:
        async with aclosing(changes(files, delay=DELAY)) as stream:
            first = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)  # the watch stands after its first step
            act()
            done, _ = await asyncio.wait([first], timeout=0.3 if quiet else 10)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            return bool(done)

    return asyncio.run(run())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.yaml"
    path.write_text("a: 1\n")
    return path


def write(file: Path, text: str) -> None:
    file.write_text(text)


def replace(file: Path, text: str) -> None:
    new = file.with_name(".agent.yaml.swp")
    new.write_text(text)
    new.replace(file)


@pytest.mark.parametrize("text", ["a: 2\n", "a: 22\n", ""])
def test_a_file_that_is_written_in_place(file: Path, text: str) -> None:
    assert told([file], lambda: write(file, text))


def test_a_file_that_an_editor_replaces(file: Path) -> None:
    assert told([file], lambda: replace(file, "a: 2\n"))


def test_a_file_that_goes_away(file: Path) -> None:
    assert told([file], file.unlink)


def test_a_file_that_comes(file: Path) -> None:
    new = file.with_name("new.crt")
    assert told([file, new], lambda: write(new, "x"))


def test_a_link_that_is_turned(tmp_path: Path) -> None:
    # As Kubernetes exchanges a mounted ConfigMap: agent.yaml -> ..data/agent.yaml, ..data -> ..1
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "agent.yaml").write_text(name)
    (tmp_path / "..data").symlink_to("..1")
    file = tmp_path / "agent.yaml"
    file.symlink_to("..data/agent.yaml")

    def turn() -> None:
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").replace(tmp_path / "..data")

    assert told([file], turn)


def test_a_linked_file_that_is_written_where_it_is(tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    link = folder / "agent.yaml"
    link.symlink_to(file)
    assert told([link], lambda: write(file, "a: 2\n"))


def test_other_files_of_the_folder_are_none_of_ours(file: Path) -> None:
    def act() -> None:
        file.with_name("agent.log").write_text("x")
        os.utime(file.parent)

    assert not told([file], act, quiet=True)


def test_a_folder_that_is_exchanged_is_seen_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_watcher, "LOOK_AGAIN", 0.1)
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "ca.crt").write_text("old")

    def exchange() -> None:
        folder.rename(tmp_path / "before")
        folder.mkdir()
        (folder / "ca.crt").write_text("new one")

    assert told([folder / "ca.crt"], exchange)
    # After the exchange the watch hangs on the folder that was moved away: only looking again tells.


@pytest.mark.slow
def test_several_writes_are_one_change(file: Path) -> None:
    async def run() -> int:
        count = 0
        async with aclosing(changes([file], delay=0.2)) as stream:
            waiting = asyncio.ensure_future(anext(stream))
            for number in range(5):
                file.write_text("x" * number)
                await asyncio.sleep(0)
            while True:
                done, _ = await asyncio.wait([waiting], timeout=1.0 if count else 10)
                if not done:
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)
                    return count
                count += 1
                waiting = asyncio.ensure_future(anext(stream))

    assert asyncio.run(run()) == 1


def test_a_folder_that_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_watcher, "LOOK_AGAIN", 0.1)
    folder = tmp_path / "later" / "certs"

    def make() -> None:
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_text("x")

    assert told([folder / "ca.crt"], make)
