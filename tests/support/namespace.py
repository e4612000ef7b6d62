"""A network namespace joined by a cable: an agent in it can lose its interface and address."""

import os
import subprocess
from typing import Self

HERE = "10.203.0.1"
"""Our end of the cable."""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Namespace:
    """A namespace whose end of the cable has an address of 10.203.0.0/29. Needs root, iproute2."""

    def __init__(self) -> None:
        self.name = f"zt-{os.getpid()}"
        self._near, self._far = f"ztn{os.getpid()}", f"ztf{os.getpid()}"
        self._address = "10.203.0.2/29"

    @property
    def command(self) -> list[str]:
        """Command prefix that runs a program in the namespace."""
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name)
        _ip(
            "link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.name
        )
        _ip("address", "add", f"{HERE}/29", "dev", self._near)
        _ip("link", "set", self._near, "up")
        _ip("-n", self.name, "address", "add", self._address, "dev", self._far)
        _ip("-n", self.name, "link", "set", "lo", "up")
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        _ip("link", "delete", self._near)
        _ip("netns", "delete", self.name)

    def unplug(self) -> None:
        """Take the interface down."""
        _ip("-n", self.name, "link", "set", self._far, "down")

    def plug(self) -> None:
        """Bring the interface up."""
        _ip("-n", self.name, "link", "set", self._far, "up")

    def move(self, address: str) -> None:
        """Change the address, as a provider does at night."""
        _ip("-n", self.name, "address", "delete", self._address, "dev", self._far)
        self._address = f"{address}/29"
        _ip("-n", self.name, "address", "add", self._address, "dev", self._far)
