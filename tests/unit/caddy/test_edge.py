"""What the edge says without a Caddy."""

import pytest

from zerotrust.caddy.edge import Edge
from zerotrust.errors import CaddyError
from zerotrust.model.server import ServerConfig

pytestmark = pytest.mark.anyio

NONE = ServerConfig.model_validate({"caddy": {"mode": "none"}})


async def test_none_owns_nothing() -> None:
    async with Edge(NONE) as edge:
        await edge.apply(NONE)
        assert edge.pid is None
        assert edge.root_certificate is None


async def test_the_mode_needs_a_restart() -> None:
    async with Edge(NONE) as edge:
        with pytest.raises(CaddyError, match=r"caddy\.mode changes only"):
            await edge.apply(ServerConfig())


async def test_an_external_caddy_that_is_not_there() -> None:
    config = ServerConfig.model_validate({"caddy": {"mode": "external", "admin_api": "unix//nowhere/admin.sock"}})
    with pytest.raises(CaddyError, match=r"admin API of Caddy at unix//nowhere/admin\.sock does not answer"):
        await Edge(config).__aenter__()
