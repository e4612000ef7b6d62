"""Tests of zerotrust.server.identity.worker_slot."""

from pathlib import Path

import pytest

from zerotrust.errors import SetupError
from zerotrust.model.server import ServerConfig
from zerotrust.server.identity.worker_slot import VARIABLE, WorkerSlot

CONFIG = ServerConfig.model_validate(
    {
        "server": {"workers": "auto"},
        "api": {"listen_addr": "unix:/run/api"},
        "state": {"dir": "/s"},
        "limits": {"requests": 100},
        "access_log": {"output": "/log/requests"},
    }
)


def test_the_parent_tells_the_place_once() -> None:
    slot = WorkerSlot(1, 3, 7, 8)
    environment = {VARIABLE: str(slot)}
    assert WorkerSlot.of(environment) == slot
    assert WorkerSlot.of(environment) is None


@pytest.mark.parametrize("text", ["", "1", "1/2", "a/b/c", "1/2/3", "1/2/3/4/5"])
def test_another_variable_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match="unset it"):
        WorkerSlot.of({VARIABLE: text})


def test_a_worker_has_sockets_files_and_shares_of_its_own() -> None:
    slot = WorkerSlot(1, 2)
    config = slot.config(CONFIG)
    assert config.server.worker_count == 2
    assert config.api.listen_addr == "unix:/run/api.1"
    assert config.admin_socket == "/s/worker-1.sock"
    assert config.limits.requests == 50
    assert config.access_log.output == "/log/requests.worker-1"
    assert not (config.hot_reload.watch_config or config.hot_reload.watch_certs)
    assert slot.other_sockets(CONFIG) == [Path("/s/worker-0.sock")]
    assert WorkerSlot(0, 2).config(ServerConfig()).access_log.output is None


def test_only_several_workers_have_files_of_their_own() -> None:
    served = Path("/s/served")
    assert WorkerSlot(0, 1).file(served) == served
    assert WorkerSlot(1, 2).file(served) == Path("/s/served-1")
    assert [WorkerSlot(index, 2).is_first for index in range(2)] == [True, False]


def test_a_worker_has_a_parent_and_a_server_of_one_process_has_none() -> None:
    assert WorkerSlot(0, 1, 0).has_parent
    assert not WorkerSlot(0, 1).has_parent
