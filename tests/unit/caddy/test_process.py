"""Tests of zerotrust.caddy.process with a program that stands for Caddy;
tests/component/test_caddy_process.py runs the real one."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.ports import free_port
from tests.support.waiting import eventually
from tests.unit.caddy import fake_caddy
from zerotrust.caddy import process
from zerotrust.caddy.admin import AdminApi
from zerotrust.caddy.process import CaddyProcess, die_with_parent, environment, make_directory
from zerotrust.caddy.render import admin_address, render
from zerotrust.errors import CaddyError
from zerotrust.model.server import ServerConfig


def test_environment() -> None:
    given = environment(
        {"PATH": "/bin", "HOME": "/root", "CADDY_ADMIN": "x"}, Path("/c"), "unix//c/admin.sock|0600"
    )
    assert given == {
        "PATH": "/bin",
        "HOME": "/c",
        "GODEBUG": "http2xconnect=1",
        "CADDY_ADMIN": "unix//c/admin.sock|0600",
        "XDG_DATA_HOME": "/c/data",
        "XDG_CONFIG_HOME": "/c/config",
    }


def test_an_existing_godebug_is_kept() -> None:
    assert (
        environment({"GODEBUG": "madvdontneed=1"}, Path("/c"), "a")["GODEBUG"]
        == "madvdontneed=1,http2xconnect=1"
    )


def test_a_directory_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaddyError, match=r"caddy\.config_dir .*file/caddy cannot be created"):
        make_directory(tmp_path / "file" / "caddy")


def test_a_directory_writable_by_others(tmp_path: Path) -> None:
    folder = tmp_path / "caddy"
    make_directory(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    make_directory(folder)
    folder.chmod(0o770)
    with pytest.raises(
        CaddyError,
        match=r"caddy\.config_dir: other users can write .*/caddy \(mode 0770\).*chmod 700",
    ):
        make_directory(folder)


def test_no_death_signal_outside_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert die_with_parent() is None


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerConfig:
    monkeypatch.setattr(process, "FIRST_DELAY", 0.01)
    keys = {
        "binary": str(fake_caddy.install(tmp_path)),
        "config_dir": str(tmp_path / "c"),
        "bind": ["127.0.0.1"],
        "http_port": free_port(),
        "https_port": free_port(),
    }
    return ServerConfig.model_validate({"caddy": keys})


def changed(config: ServerConfig, **keys: Any) -> ServerConfig:
    return config.model_copy(update={"caddy": config.caddy.model_copy(update=keys)})


async def running_config(config: ServerConfig) -> dict[str, Any] | None:
    async with AdminApi(admin_address(config.caddy)) as admin:
        return await admin.config()


async def is_served(config: ServerConfig) -> bool:
    async with AdminApi(admin_address(config.caddy)) as admin:
        return await admin.ready()


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.anyio
async def test_caddy_runs_between_entry_and_exit(config: ServerConfig) -> None:
    with capture_logs() as logs:
        async with CaddyProcess(config) as caddy:
            pid = caddy.pid
            assert pid is not None and is_alive(pid)
            assert await running_config(config) == render(config)
    assert caddy.pid is None and not is_alive(pid)
    assert "starting" in [entry["event"] for entry in logs], "a line of Caddy's log"


@pytest.mark.anyio
async def test_an_old_caddy_is_logged(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CADDY", "old")
    with capture_logs() as logs:
        async with CaddyProcess(config):
            assert "older than 2.11" in logs[0]["event"]


@pytest.mark.anyio
async def test_a_change_is_applied(config: ServerConfig) -> None:
    other = changed(config, http_port=free_port())
    async with CaddyProcess(config) as caddy:
        await caddy.apply(other)
        assert await running_config(config) == render(other) != render(config)


@pytest.mark.anyio
async def test_a_refused_change_leaves_the_old_configuration(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CADDY", "refuse")
    async with CaddyProcess(config) as caddy:
        await caddy.apply(config)  # nothing differs, so nothing is sent that could be refused
        for _ in range(2):
            with pytest.raises(CaddyError, match="Caddy refused POST /load: not this"):
                await caddy.apply(changed(config, http_port=0))
        assert await running_config(config) == render(config)


@pytest.mark.anyio
async def test_other_directories_need_a_restart(config: ServerConfig) -> None:
    async with CaddyProcess(config) as caddy:
        with pytest.raises(CaddyError, match=r"caddy\.config_dir needs a restart"):
            await caddy.apply(changed(config, config_dir="/elsewhere"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("mode", "reason"), [("die", "loading: no"), ("die silently", "found by validate")]
)
async def test_a_failed_start_has_caddys_reason(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch, mode: str, reason: str
) -> None:
    monkeypatch.setenv("FAKE_CADDY", mode)
    with pytest.raises(CaddyError, match=f"Caddy did not start: {reason}"):
        await CaddyProcess(config).__aenter__()


@pytest.mark.anyio
async def test_a_caddy_that_serves_nothing_is_ended(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CADDY", "hang")
    monkeypatch.setattr(process, "START_TIMEOUT", 0.3)
    caddy = CaddyProcess(config)
    with pytest.raises(CaddyError, match="Caddy was not ready within 0 s: see the log"):
        await caddy.__aenter__()
    assert caddy.pid is None


@pytest.mark.anyio
async def test_a_second_caddy_in_the_same_directory_is_refused(config: ServerConfig) -> None:
    async with CaddyProcess(config):
        with pytest.raises(CaddyError, match="another server already runs a Caddy"):
            await CaddyProcess(config).__aenter__()
        assert await running_config(config) == render(config)


@pytest.mark.anyio
async def test_a_caddy_that_ended_is_started_until_it_runs(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logs:
        async with CaddyProcess(config) as caddy:
            first = caddy.pid
            assert first is not None
            monkeypatch.setenv("FAKE_CADDY", "die")
            os.kill(first, signal.SIGKILL)
            failed = ("cannot start caddy", "Caddy did not start: loading: no")
            await eventually(
                lambda: failed in [(entry["event"], entry.get("reason")) for entry in logs],
                "a start has failed",
            )
            monkeypatch.setattr(process, "START_TIMEOUT", 0.0)
            with pytest.raises(CaddyError, match="Caddy does not run: its last start failed"):
                await caddy.apply(changed(config, http_port=0))
            monkeypatch.setattr(process, "START_TIMEOUT", 10.0)
            monkeypatch.delenv("FAKE_CADDY")
            await eventually(lambda: is_served(config), "Caddy runs again")
            assert caddy.pid not in (None, first)
            assert await running_config(config) == render(config)


@pytest.mark.anyio
async def test_a_program_that_can_no_longer_be_run_is_named(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logs:
        async with CaddyProcess(config) as caddy:
            Path(config.caddy.binary or "").unlink()
            assert caddy.pid is not None
            os.kill(caddy.pid, signal.SIGKILL)
            await eventually(
                lambda: any("cannot be run" in str(entry.get("reason")) for entry in logs),
                "the start has failed",
            )


@pytest.mark.anyio
async def test_a_caddy_that_does_not_end_is_killed(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CADDY", "stubborn")
    monkeypatch.setattr(process, "STOP_TIMEOUT", 0.1)
    with capture_logs() as logs:
        async with CaddyProcess(config) as caddy:
            pid = caddy.pid
            assert pid is not None
    assert not is_alive(pid)
    assert logs[-1]["event"] == "caddy did not exit in time; killing it"
