"""The parts of `0trust` and backends that each start imports or builds, in memory that forks share.

Only the fork server of `forked_product` imports this module. It halves the processor time of a
start.
"""

import asyncio
import functools
import gc
import os
from collections.abc import Iterator

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # as `zerotrust.cli.main` does

import anyio._backends._asyncio  # noqa: F401  what httpx2 imports when a client is made
import httpcore2  # noqa: F401
import typer.main
import websockets.asyncio.server  # noqa: F401
from pydantic import BaseModel

import tests.support.origin_connection
import tests.support.routes  # noqa: F401
import zerotrust.agent.app
import zerotrust.agent.control_socket
import zerotrust.agent.join
import zerotrust.cli.access_output
import zerotrust.cli.admin_client
import zerotrust.cli.tables
import zerotrust.doctor.examination
import zerotrust.doctor.url_trace
import zerotrust.model.access_admin
import zerotrust.model.admin
import zerotrust.model.capture_admin
import zerotrust.model.traffic_admin
import zerotrust.server.access_service  # noqa: F401
from zerotrust.cli import commands
from zerotrust.model.base import Model
from zerotrust.model.password_hash import HashSpeed
from zerotrust.server import app
from zerotrust.server.agents.hash_speed import measure_hash_speed


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)


for _model in _models(Model):
    _model.model_rebuild()

typer.main.get_command = functools.cache(typer.main.get_command)
typer.main.get_command(commands.app)

_speed = asyncio.run(measure_hash_speed())


async def _measured_once() -> HashSpeed:
    """Return this machine's speed, which does not change between two starts."""
    return _speed


app.measure_hash_speed = _measured_once  # type: ignore[attr-defined]
gc.collect()
gc.freeze()  # the collector would write to shared pages
