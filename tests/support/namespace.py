"""A network namespace joined by a cable: an agent in it can lose its interface and address."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

HERE: Final = "10.203.0.1"
HERE_6: Final = "fd00:203::1"
"""Our end of the cable."""
_NOWHERE: Final = "02:00:00:00:00:01"
"""Link-layer address of no machine."""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Namespace:
    """A namespace whose end of the cable has addresses of 10.203.0.0/29 and fd00:203::/64.

    Needs root and iproute2.
    """

    def __init__(self) -> None:
        self.name = f"zt-{os.getpid()}"
        self._near, self._far = f"ztn{os.getpid()}", f"ztf{os.getpid()}"
        self._address = "10.203.0.2/29"
        self._settings = Path("/etc/netns") / self.name

    @property
    def command(self) -> list[str]:
        """Command prefix that runs a program in the namespace."""
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name)
        self._join()
        _ip("address", "add", f"{HERE}/29", "dev", self._near)
        _ip("address", "add", f"{HERE_6}/64", "dev", self._near, "nodad")
        _ip("link", "set", self._near, "up")
        self._in("address", "add", self._address, "dev", self._far)
        self._in("address", "add", "fd00:203::2/64", "dev", self._far, "nodad")
        self._keep_ipv6_address()
        self._in("link", "set", "lo", "up")
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        _ip("link", "delete", self._near)
        _ip("netns", "delete", self.name)
        if self._settings.exists():
            (self._settings / "hosts").unlink()
            self._settings.rmdir()

    def unplug(self) -> None:
        """Take the interface down."""
        self._in("link", "set", self._far, "down")

    def plug(self) -> None:
        """Bring the interface up."""
        self._in("link", "set", self._far, "up")

    def move(self, address: str) -> None:
        """Change the address, as a provider does at night."""
        self._in("address", "delete", self._address, "dev", self._far)
        self._address = f"{address}/29"
        self._in("address", "add", self._address, "dev", self._far)

    def name_host(self, name: str, *addresses: str) -> None:
        """Let programs that start in the namespace resolve a name to these addresses."""
        self._settings.mkdir(parents=True)
        lines = ["127.0.0.1 localhost", "::1 localhost", *(f"{one} {name}" for one in addresses)]
        (self._settings / "hosts").write_text("\n".join(lines) + "\n")

    def remove_ipv4(self) -> None:
        """Leave only IPv6."""
        self._in("address", "delete", self._address, "dev", self._far)

    def lose(self, address: str) -> None:
        """Send packets for this address of ours nowhere, without an error for the sender."""
        neighbour = ["neighbour", "replace", address, "lladdr", _NOWHERE, "nud", "permanent"]
        self._in(*neighbour, "dev", self._far)

    def find(self, address: str) -> None:
        """Undo `lose`."""
        self._in("neighbour", "delete", address, "dev", self._far)

    def _join(self) -> None:
        """Lay the cable."""
        _ip(
            "link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.name
        )

    def _keep_ipv6_address(self) -> None:
        """Keep the IPv6 address while the interface is down, as the kernel does for IPv4."""
        setting = f"/proc/sys/net/ipv6/conf/{self._far}/keep_addr_on_down"
        subprocess.run([*self.command, "sh", "-c", f"echo 1 > {setting}"], check=True)

    def _in(self, *words: str) -> None:
        """Run `ip` in the namespace."""
        _ip("-n", self.name, *words)


class BridgedNamespace(Namespace):
    """A namespace behind a bridge, which drops large packets without a word if it is narrow."""

    def __init__(self) -> None:
        super().__init__()
        self._bridge = f"zb-{os.getpid()}"

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        _ip("netns", "delete", self._bridge)

    def narrow(self, mtu: int) -> None:
        """Drop packets above this size, without telling their senders."""
        for port in ("near", "far"):
            _ip("-n", self._bridge, "link", "set", port, "mtu", str(mtu))

    def _join(self) -> None:
        _ip("netns", "add", self._bridge)
        _ip("-n", self._bridge, "link", "add", "bridge", "type", "bridge")
        ends: Sequence[tuple[str, Sequence[str]]] = (
            ("near", [self._near]),
            ("far", [self._far, "netns", self.name]),
        )
        for port, end in ends:
            veth = ["type", "veth", "peer", "name", port, "netns", self._bridge]
            _ip("link", "add", *end, *veth)
            _ip("-n", self._bridge, "link", "set", port, "master", "bridge", "up")
        _ip("-n", self._bridge, "link", "set", "bridge", "up")
        # The kernel must cut segments before the bridge, which does not cut large ones.
        _ip("link", "set", self._near, "gso_max_segs", "1")
        self._in("link", "set", self._far, "gso_max_segs", "1")
