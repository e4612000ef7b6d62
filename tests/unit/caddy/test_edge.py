"""Tests of zerotrust.caddy.edge, without a Caddy."""

from typing import Any

import pytest

from zerotrust.caddy.edge import Edge
from zerotrust.errors import CaddyError
from zerotrust.model.server import ServerConfig

pytestmark = pytest.mark.anyio

NONE = ServerConfig.model_validate({"caddy": {"mode": "none"}})


async def test_mode_none_runs_no_caddy() -> None:
    async with Edge(NONE) as edge:
        await edge.apply(NONE)
        assert edge.pid is None


async def test_the_mode_needs_a_restart() -> None:
    async with Edge(NONE) as edge:
        with pytest.raises(CaddyError, match=r"caddy\.mode needs a restart"):
            await edge.apply(ServerConfig())


@pytest.mark.parametrize(
    ("caddy", "changed", "waiting", "left"),
    [
        (
            {},
            {"https_port": 8443, "binary": "/b"},
            ["caddy.binary"],
            {"https_port": 8443, "binary": None},
        ),
        (
            {},
            {"config_dir": "/d", "http_port": 0},
            ["caddy.config_dir"],
            {"config_dir": "/c", "http_port": 0},
        ),
        ({}, {"admin_api": "http://x"}, [], {"admin_api": "http://x"}),
        (
            {},
            {"mode": "none", "https_port": 8443},
            ["caddy.mode"],
            {"mode": "managed", "https_port": 443},
        ),
        ({"mode": "external"}, {"admin_api": "http://x"}, ["caddy.admin_api"], {"admin_api": None}),
        (
            {"mode": "external"},
            {"binary": "/b", "config_dir": "/d"},
            [],
            {"binary": "/b", "config_dir": "/d"},
        ),
        ({"mode": "none"}, {"https_port": 8443}, [], {"https_port": 8443}),
        ({"mode": "none"}, {"mode": "external"}, ["caddy.mode"], {"mode": "none"}),
    ],
)
def test_keys_that_need_a_restart_stay_unchanged(
    caddy: dict[str, Any], changed: dict[str, Any], waiting: list[str], left: dict[str, Any]
) -> None:
    before = {"config_dir": "/c", **caddy}
    edge = Edge(ServerConfig.model_validate({"caddy": before}))
    wanted = ServerConfig.model_validate(
        {"caddy": {**before, **changed}, "api": {"listen_addr": "127.0.0.1:1"}}
    )
    settled, said = edge.without_restart(wanted)
    assert said == waiting
    assert {key: getattr(settled.caddy, key) for key in left} == left
    assert settled.api == wanted.api


async def test_an_unreachable_external_caddy_raises() -> None:
    config = ServerConfig.model_validate(
        {"caddy": {"mode": "external", "admin_api": "unix//nowhere/admin.sock"}}
    )
    with pytest.raises(
        CaddyError, match=r"admin API of Caddy at unix//nowhere/admin\.sock does not answer"
    ):
        await Edge(config).__aenter__()


async def test_another_process_of_the_server_runs_caddy() -> None:
    config = ServerConfig()
    async with Edge(config, elsewhere=True) as edge:
        assert edge.pid is None
        await edge.apply(config)
