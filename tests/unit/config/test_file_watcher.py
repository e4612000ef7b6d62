"""Tests of zerotrust.config.file_watcher, with real files and events of the system."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import watchfiles.main
from watchfiles import Change, awatch
from watchfiles._rust_notify import RustNotify

from tests.support.waiting import eventually
from zerotrust.config import file_watcher
from zerotrust.config.file_watcher import changes

DELAY = 0.05


class Watches:
    """Record of the watches that the system was asked for, and of its events.

    Attributes:
        begun: number of watches.
        seen: names of the files in events.
        turns: number of batches of events, or of timeouts without one.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = self.turns = 0
        self.seen: set[str] = set()
        monkeypatch.setattr(watchfiles.main, "RustNotify", self._begin)
        monkeypatch.setattr(file_watcher, "awatch", self._tell)

    def _begin(self, *args: Any) -> RustNotify:
        watch = RustNotify(*args)
        self.begun += 1
        return watch

    async def _tell(
        self, *folders: Path, watch_filter: Callable[[Change, str], bool], **options: Any
    ) -> AsyncGenerator[object, None]:
        def judge(change: Change, path: str) -> bool:
            self.seen.add(Path(path).name)
            return watch_filter(change, path)

        async for batch in awatch(*folders, watch_filter=judge, **options):
            self.turns += 1
            yield batch


@pytest.fixture(autouse=True)
def watches(monkeypatch: pytest.MonkeyPatch) -> Watches:
    """Disable the periodic check, which would hide missing events."""
    monkeypatch.setattr(file_watcher, "RECHECK_SECONDS", 60.0)
    return Watches(monkeypatch)


@asynccontextmanager
async def watched(files: list[Path], watches: Watches) -> AsyncIterator[asyncio.Task[None]]:
    """Yield a task that ends with the first change, when the system watches."""
    async with aclosing(changes(files, delay=DELAY)) as stream:
        first = asyncio.ensure_future(anext(stream))
        try:
            await eventually(lambda: watches.begun, "the folders are watched")
            yield first
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)


def causes_event(files: list[Path], act: Callable[[], None], watches: Watches) -> bool:
    """Return True if `act` causes an event."""

    async def run() -> bool:
        async with watched(files, watches) as first:
            act()
            done, _ = await asyncio.wait([first], timeout=10)
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
def test_a_file_that_is_written_in_place(file: Path, text: str, watches: Watches) -> None:
    assert causes_event([file], lambda: write(file, text), watches)


def test_a_file_that_an_editor_replaces(file: Path, watches: Watches) -> None:
    assert causes_event([file], lambda: replace(file, "a: 2\n"), watches)


def test_a_file_that_goes_away(file: Path, watches: Watches) -> None:
    assert causes_event([file], file.unlink, watches)


def test_a_file_that_comes(file: Path, watches: Watches) -> None:
    new = file.with_name("new.crt")
    assert causes_event([file, new], lambda: write(new, "x"), watches)


def test_a_link_that_is_switched(tmp_path: Path, watches: Watches) -> None:
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

    assert causes_event([file], turn, watches)


def test_a_linked_file_that_is_written_where_it_is(
    tmp_path: Path, file: Path, watches: Watches
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    link = folder / "agent.yaml"
    link.symlink_to(file)
    assert causes_event([link], lambda: write(file, "a: 2\n"), watches)


def test_other_files_of_the_folder_are_ignored(
    file: Path, watches: Watches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_watcher, "RECHECK_SECONDS", 0.05)

    async def run() -> None:
        async with watched([file], watches) as first:
            file.with_name("agent.log").write_text("x")
            os.utime(file.parent)
            await eventually(
                lambda: "agent.log" in watches.seen, "the system tells of the other file"
            )
            turns = watches.turns
            await eventually(lambda: watches.turns > turns + 1, "its events have been handled")
            assert not first.done()

    asyncio.run(run())


def test_a_replaced_folder_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watches: Watches
) -> None:
    monkeypatch.setattr(file_watcher, "RECHECK_SECONDS", 0.1)
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "ca.crt").write_text("old")

    def exchange() -> None:
        folder.rename(tmp_path / "before")
        folder.mkdir()
        (folder / "ca.crt").write_text("new one")

    assert causes_event([folder / "ca.crt"], exchange, watches)
    # After the exchange the watch hangs on the folder that was moved away: only looking again
    # tells.


@pytest.mark.slow
def test_several_writes_are_one_change(file: Path, watches: Watches) -> None:
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


def test_a_folder_that_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watches: Watches
) -> None:
    monkeypatch.setattr(file_watcher, "RECHECK_SECONDS", 0.1)
    folder = tmp_path / "later" / "certs"

    def make() -> None:
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_text("x")

    assert causes_event([folder / "ca.crt"], make, watches)
