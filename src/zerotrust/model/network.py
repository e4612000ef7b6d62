"""IP networks in a configuration."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator


def parse_network(value: str) -> str:
    """Return an IP network in its canonical form.

    Raises:
        ValueError: neither an address nor a network.
    """
    try:
        return str(ipaddress.ip_network(value.strip(), strict=False))
    except ValueError:
        raise ValueError(
            f'invalid address or network "{value}": write 10.0.0.0/8, 192.0.2.7 or ::1'
        ) from None


Network = Annotated[str, AfterValidator(parse_network)]
"""A network such as `10.0.0.0/8`, or an address."""
