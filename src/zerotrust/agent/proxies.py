"""Choice of the proxy for a connection to the server.

`server.proxy` applies to all addresses of the server. Without it the environment applies, as for
curl: `HTTPS_PROXY`, then `ALL_PROXY`, with the exceptions of `NO_PROXY`.
"""

from collections.abc import Mapping
from typing import Final, Self

from zerotrust.config import environment
from zerotrust.errors import SetupError
from zerotrust.model.agent import ServerAddress
from zerotrust.model.proxy import NoProxy, Proxy

_THIS_MACHINE: Final = "localhost 127.0.0.0/8 ::1"


class Proxies:
    """The proxy to the server, if there is one, and the addresses that need none."""

    def __init__(self, proxy: Proxy | None = None, *, exceptions: str = "") -> None:
        self._proxy = proxy
        self._exceptions = NoProxy(exceptions)

    @classmethod
    def of(cls, server: ServerAddress, variables: Mapping[str, str]) -> Self:
        """Return the choice of a configuration and the environment.

        Raises:
            SetupError: a variable has no valid URL of a proxy.
        """
        if server.proxy is not None:
            return cls(server.configured_proxy)
        found = environment.https_proxy(variables)
        if found is None:
            return cls()
        name, url = found
        try:
            proxy = Proxy.parse(url, setting=name)
        except ValueError as error:
            raise SetupError(
                f"{name}: {error}; or set server.proxy in the agent's file (none: no proxy)"
            ) from None
        # A proxy elsewhere cannot connect to this machine by these names.
        return cls(proxy, exceptions=f"{_THIS_MACHINE} {environment.no_proxy(variables)}")

    def choose(self, host: str, port: int) -> Proxy | None:
        """Return the proxy to connect to this address through; None to connect directly."""
        return None if self._exceptions.covers(host, port) else self._proxy
