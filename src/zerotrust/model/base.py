"""Types shared by the configuration models: durations, host names, addresses."""

import ipaddress
import re
from typing import Annotated, Final

import idna
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr

_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_A_LABEL: Final = "xn--"
_DEVIATIONS: Final = {
    "ß": 'the letter "ß"',
    "ς": 'the letter "ς"',
    "\u200c": "the zero-width non-joiner U+200C",
    "\u200d": "the zero-width joiner U+200D",
}
"""Characters that IDNA 2003 replaces or drops and IDNA 2008 keeps (UTS 46, table 1)."""
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_MAX_DURATION: Final = 64
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Model(BaseModel):
    """Base class of the configuration models. Instances are frozen.

    A model keeps unknown keys, so that the loader can report them (`config.unknown_keys`).
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, defer_build=True)


def parse_duration(value: object) -> float:
    """Return the seconds in "1m30s", "500ms", "24h" or a plain number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError('expected a duration such as "30s", "5m" or "1h"')
    if isinstance(value, (int, float)):
        return float(value)
    text = value.strip()
    # The expression takes quadratic time for long texts.
    parts = _DURATION.findall(text) if len(text) <= _MAX_DURATION else []
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f'invalid duration "{value[:80]}": use 30s, 5m, 1h or 500ms')
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def _not_negative(value: float) -> float:
    if not 0 <= value < 10 * 365 * 86400:
        raise ValueError("duration must be between 0 and 10 years")
    return value


Duration = Annotated[float, BeforeValidator(parse_duration), AfterValidator(_not_negative)]
"""Seconds as a float, written "30s", "5m", "1h30m" or "500ms"."""


def _part(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("must be from 0 to 1, for example 0.1 for every tenth")
    return value


Share = Annotated[float, AfterValidator(_part)]
"""Part of a whole: 0.1 is a tenth."""


Secret = SecretStr
"""Text that logs, errors and `repr` hide. `get_secret_value()` returns the text."""


def normalise_host(host: str) -> str:
    """Return a host name in the form in which 0Trust compares names.

    The form is lower case, A-labels, no port, no trailing dot: RFC 9110 s4.2.3 (case), RFC 1034
    s3.1 (the root's dot), RFC 5891 and UTS 46 (IDN). The labels of an ASCII name are not checked;
    `check_a_labels` checks names that people write.

    Raises:
        ValueError: not a host name or IP address, or a name that IDNA 2003 and IDNA 2008 map to
            different hosts.
    """
    name = host.strip()
    if name.startswith("["):
        literal, bracket, port = name[1:].lower().partition("]")
        if (
            not bracket
            or "%" in literal
            or not (port == "" or (port[0] == ":" and port[1:].isdigit()))
        ):
            raise ValueError(f'"{host}" is not a host name')
        return f"[{ipaddress.IPv6Address(literal)}]"
    name, colon, port = name.partition(":")
    if colon and port and not (port.isascii() and port.isdigit()):
        raise ValueError(f'"{host}" is not a host name')
    # str.lower would turn a final "Σ" into "ς", which would be another name.
    name = name.lower() if name.isascii() else _to_ascii(name)
    name = name.removesuffix(".")
    if not 0 < len(name) <= 253 or not all(_LABEL.match(label) for label in name.split(".")):
        raise ValueError(f'"{host}" is not a host name')
    return name


def _to_ascii(name: str) -> str:
    """Return the A-labels of a Unicode name by IDNA 2008.

    The name is mapped by UTS 46 without transitional processing.

    Raises:
        ValueError: IDNA 2008 does not allow the name, or IDNA 2003 maps it to another host.
    """
    try:
        labels = idna.uts46_remap(name, std3_rules=False).split(".")
        # ASCII labels stay as they are, because idna refuses underscores.
        encoded = ".".join(
            label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels
        )
    except idna.IDNAError as error:
        raise ValueError(f'"{name}" is not a valid internationalised host name: {error}') from error
    for letter, words in _DEVIATIONS.items():
        if any(letter in label for label in labels):
            raise ValueError(
                f'"{name}" contains {words}: older programs replace or drop it and connect to'
                f" another host; write {encoded} for the host that browsers connect to"
            )
    return encoded


def check_a_labels(name: str) -> str:
    """Return a normalised name if each label that begins with `xn--` decodes to Unicode.

    The check follows UTS 46, as browsers do. It accepts emoji, which `normalise_host` refuses in
    Unicode.

    Raises:
        ValueError: a label does not decode, so no browser asks for the name.
    """
    for label in name.split("."):
        if label.startswith(_A_LABEL) and not _is_a_label(label):
            raise ValueError(
                f'"{name}": "{label}" is not an internationalised label; correct or remove it'
            )
    return name


def _is_a_label(label: str) -> bool:
    code = label.removeprefix(_A_LABEL)
    try:
        text = code.encode("ascii").decode("punycode")
        canonical = text.encode("punycode").decode("ascii")
        return (
            not text.isascii()
            and canonical == code
            and idna.uts46_remap(text, std3_rules=False) == text
        )
    except UnicodeError:  # includes idna.IDNAError
        return False


def is_address(host: str) -> bool:
    """Return True for an IP address, False for a name; `host` is normalised."""
    return host.startswith("[") or host.rpartition(".")[2].isdigit()


CATCH_ALL: Final = "*"
"""The pattern that matches every host name."""


def wildcard_of(host: str) -> str:
    """Return the wildcard that matches a host name: `*.` and all labels but the first."""
    return f"*.{host.partition('.')[2]}"


def patterns_of(host: str) -> tuple[str, str, str]:
    """Return the patterns that match a normalised host name, the most specific one first."""
    return host, wildcard_of(host), CATCH_ALL


def is_pattern(name: str) -> bool:
    """Return True for a wildcard, False for a host name; both are normalised."""
    return name.startswith(CATCH_ALL)


def parse_pattern(text: str) -> str:
    """Return a host name pattern in normalised form.

    Raises:
        ValueError: neither a host name, nor `*.` and a host name, nor `*`.
    """
    written = text.strip()
    if written == CATCH_ALL:
        return CATCH_ALL
    if "/" in written:
        raise ValueError(
            f'"{text}" is a URL; write only the host name, for example app.example.com'
        )
    name = written.removeprefix("*.")
    if "*" in name:
        raise ValueError(
            f'"{text}": a wildcard must be the whole first label, for example *.lab.example.com,'
            " or * alone"
        )
    if ":" in name and not (name.startswith("[") and name.endswith("]")):
        raise ValueError(f'"{text}" has a port; remove it: a host name applies to every port')
    host = normalise_host(name)
    if name == written:
        return host
    if is_address(host):
        raise ValueError(f'"{text}": an IP address cannot have a wildcard; name the address itself')
    return f"*.{host}"


HostPattern = Annotated[str, AfterValidator(parse_pattern), AfterValidator(check_a_labels)]
"""A host name, or `*.` and a host name, where the star stands for exactly one label, or `*`."""


def parse_service_host(value: str) -> str:
    """Return a service's host name or wildcard in normalised form. A host name may have a port.

    Raises:
        ValueError: neither a host name nor a wildcard.
    """
    if "://" in value or "/" in value:
        raise ValueError(
            f'"{value}" is a URL; write only the host name, for example app.example.com'
        )
    if "*" in value:
        return parse_pattern(value)
    return normalise_host(value)


HostName = Annotated[str, AfterValidator(parse_service_host), AfterValidator(check_a_labels)]
"""A host name or wildcard of a service, in normalised form (see `normalise_host`)."""


def split_address(
    value: str, *, default_host: str = "", default_port: int | None = None
) -> tuple[str, int]:
    """Return the host and the port of an address.

    The address is "host:port", ":port", "[::1]:port", or "host" if there is a default port.

    Raises:
        ValueError: no port, or a port outside 0..65535.
    """
    text = value.strip()
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        ipaddress.IPv6Address(host)
        if rest and not rest.startswith(":"):
            raise ValueError(f'"{value}": write the port after the bracket, for example [::1]:8443')
        port_text = rest.removeprefix(":")
    elif text.count(":") > 1:
        raise ValueError(f'"{value}": write an IPv6 address in brackets, for example [::1]:8443')
    else:
        host, _, port_text = text.partition(":")
    if not port_text and default_port is not None:
        return host or default_host, default_port
    if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
        raise ValueError(
            f'"{value}" has no valid port; write host:port, for example 127.0.0.1:8443'
        )
    return host or default_host, int(port_text)


def join_address(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(value: str) -> str:
    if value.startswith("unix:"):
        if len(value) == 5:
            raise ValueError("unix: needs a path, for example unix:/run/0trust/api.sock")
        return value
    split_address(value)
    return value


def parse_host_port(value: str) -> str:
    """Return `host:port` in normalised form; both are required.

    Raises:
        ValueError: not a host name or IP address with a port from 1 to 65535.
    """
    host, port = split_address(value)
    if not host or not port:
        raise ValueError(f'"{value}" is not complete; write host:port')
    return f"{normalise_host(f'[{host}]' if ':' in host else host)}:{port}"


HostPort = Annotated[str, AfterValidator(parse_host_port)]
"""Address of a program that others connect to: `host:port`, in normalised form."""


Listen = Annotated[str, AfterValidator(_listen)]
"""Listening address: "127.0.0.1:9443", ":8443" (all interfaces) or "unix:/run/0trust/api.sock"."""


def is_loopback(listen: str) -> bool:
    """Return True if only this machine can connect to the listening address."""
    if listen.startswith("unix:"):
        return True
    host, _ = split_address(listen)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
