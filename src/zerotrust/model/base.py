"""Types that several models share: how a duration, a host name or an address is written, and what it becomes."""

import ipaddress
import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr

_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Model(BaseModel):
    """Base of all configuration models: frozen; unknown keys are kept aside for the loader to report."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


def parse_duration(value: object) -> object:
    """Seconds from "1m30s", "500ms", "24h" or a plain number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError('expected a duration such as "30s", "5m" or "1h"')
    if isinstance(value, (int, float)):
        return float(value)
    text = value.strip()
    parts = _DURATION.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f'"{value}" is not a duration; write "30s", "5m", "1h" or "500ms"')
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def _not_negative(value: float) -> float:
    if not 0 <= value < 10 * 365 * 86400:
        raise ValueError("a duration lies between 0 and ten years")
    return value


Duration = Annotated[float, BeforeValidator(parse_duration), AfterValidator(_not_negative)]
"""Seconds as a float; written "30s", "5m", "1h30m", "500ms"."""


Secret = SecretStr
"""Text that no log, error or representation shows; `get_secret_value()` is the text itself."""


def normalise_host(host: str) -> str:
    """The form in which host names are compared: lower case, A-labels, no port, no trailing dot.

    RFC 9110 s4.2.3 (case), RFC 1034 s3.1 (the root's dot), RFC 5891 (IDN).

    Raises:
        ValueError: not a host name or IP address.
    """
    name = host.strip().lower()
    if name.startswith("["):
        literal, bracket, port = name[1:].partition("]")
        if not bracket or "%" in literal or not (port == "" or (port[0] == ":" and port[1:].isdigit())):
            raise ValueError(f'"{host}" is not a host name')
        return f"[{ipaddress.IPv6Address(literal)}]"
    name, colon, port = name.partition(":")
    if colon and port and not (port.isascii() and port.isdigit()):
        raise ValueError(f'"{host}" is not a host name')
    name = name.removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ValueError(f'"{host}" is not a valid internationalised host name') from error
    if not 0 < len(name) <= 253 or not all(_LABEL.match(label) for label in name.split(".")):
        raise ValueError(f'"{host}" is not a host name')
    return name


def parse_pattern(text: str) -> str:
    """A pattern in the form in which it is compared.

    Raises:
        ValueError: neither a host name nor `*.` and a name.
    """
    written = text.strip()
    if "/" in written:
        raise ValueError(f'"{text}" is a URL; write only the host name, for example app.example.com')
    name = written.removeprefix("*.")
    if "*" in name:
        raise ValueError(f'"{text}": a wildcard is the whole first label, for example *.lab.example.com')
    if ":" in name and not (name.startswith("[") and name.endswith("]")):
        raise ValueError(f'"{text}" has a port; a grant is for the host name on every port')
    host = normalise_host(name)
    if name == written:
        return host
    if host.startswith("[") or host.rpartition(".")[2].isdigit():
        raise ValueError(f'"{text}": an IP address has no wildcard')
    return f"*.{host}"


HostPattern = Annotated[str, AfterValidator(parse_pattern)]
"""A host name, or `*.` and a name, where the star stands for exactly one label."""


def _service_host(value: str) -> str:
    if "://" in value or "/" in value:
        raise ValueError(f'"{value}" is a URL; write only the host name, for example app.example.com')
    if "*" in value:
        raise ValueError(f'"{value}": wildcards are not supported, name each host')
    return normalise_host(value)


HostName = Annotated[str, AfterValidator(_service_host)]
"""A host name in the form in which it is compared (see `normalise_host`)."""


def split_address(value: str, *, default_host: str = "", default_port: int | None = None) -> tuple[str, int]:
    """Host and port from "host:port", ":port", "[::1]:port", or "host" where there is a default port.

    Raises:
        ValueError: no port, or a port outside 0..65535.
    """
    text = value.strip()
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        ipaddress.IPv6Address(host)
        if rest and not rest.startswith(":"):
            raise ValueError(f'"{value}": after the bracket comes the port, for example [::1]:8443')
        port_text = rest.removeprefix(":")
    elif text.count(":") > 1:
        raise ValueError(f'"{value}": write an IPv6 address in brackets, for example [::1]:8443')
    else:
        host, _, port_text = text.partition(":")
    if not port_text and default_port is not None:
        return host or default_host, default_port
    if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
        raise ValueError(f'"{value}" has no valid port; write host:port, for example 127.0.0.1:8443')
    return host or default_host, int(port_text)


def _listen(value: str) -> str:
    if value.startswith("unix:"):
        if len(value) == 5:
            raise ValueError("unix: needs a path, for example unix:/run/0trust/api.sock")
        return value
    split_address(value)
    return value


Listen = Annotated[str, AfterValidator(_listen)]
"""Where to listen: "127.0.0.1:9443", ":8443" (all interfaces) or "unix:/run/0trust/api.sock"."""


def is_loopback(listen: str) -> bool:
    """True where only this machine can connect to the address."""
    if listen.startswith("unix:"):
        return True
    host, _ = split_address(listen)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
