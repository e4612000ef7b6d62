"""Servers that share a PostgreSQL database, in the test's own process."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.support.inprocess_stack import RunningServer, StackFiles, serving
from tests.support.ports import free_port


class EdgeFiles:
    """Configurations of servers of one authority and one database."""

    def __init__(self, files: StackFiles, url: str) -> None:
        self.files = files
        self._url = url
        self.tunnel_ports = (files.tunnel_port, free_port())
        self.api_ports = (files.api_port, free_port())

    def address(self, number: int) -> str:
        """Return the address of a server for agents."""
        return f"127.0.0.1:{self.tunnel_ports[number]}"

    @contextlib.asynccontextmanager
    async def serving(self, number: int, **server: Any) -> AsyncIterator[RunningServer]:
        """Run a server."""
        address = self.address(number)
        config = self.files.server(
            server={"listen_addr": address, "member_addr": address, **server},
            api={"listen_addr": f"127.0.0.1:{self.api_ports[number]}"},
            state={"dir": str(self.files.folder / f"state-{number}"), "url": self._url},
        )
        async with serving(self.files, config) as made:
            made.port = self.api_ports[number]
            yield made
