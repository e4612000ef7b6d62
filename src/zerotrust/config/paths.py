"""File names in a configuration, resolved relative to the folder of the configuration file.

So a folder with a configuration and its certificates works at any place, whatever the current
directory is.
"""

from pathlib import Path
from typing import Any, Final

# "*" stands for each item of a list or mapping.
_FILES: Final = (
    "server.cert_file",
    "server.key_file",
    "server.ca_file",
    "server.ca_cert",
    "server.cert",
    "server.key",
    "state.dir",
    "admin.socket",
    "authority.cert_file",
    "authority.key_file",
    "authority.passphrase_file",
    "access.geo.database",
    "access.identity_providers.*.client_secret_file",
    "caddy.config_dir",
    "caddy.storage_dir",
    "caddy.binary",
    "caddy.certificates.*.cert_file",
    "caddy.certificates.*.key_file",
    "caddy.logging.output",
    "logging.output",
    "access_log.output",
    "services.*.tls.cert_file",
    "services.*.tls.key_file",
    "services.*.tls.ca_file",
    "services.*.tls.client_ca_file",
    "services.*.tls.client_cert_file",
    "services.*.tls.client_key_file",
)
_NOT_FILES: Final = ("", "stdout", "stderr", "discard")


def resolve(data: dict[str, Any], folder: Path) -> None:
    """Make every file name in `data` absolute, in place."""
    for name in _FILES:
        *way, key = name.split(".")
        for section in _sections(data, way):
            value = section.get(key)
            # The system searches PATH for a program without a folder.
            if (
                isinstance(value, str)
                and value not in _NOT_FILES
                and (key != "binary" or "/" in value)
            ):
                section[key] = str(folder / value)


def _sections(data: Any, way: list[str]) -> list[dict[str, Any]]:
    if not way:
        return [data] if isinstance(data, dict) else []
    step, rest = way[0], way[1:]
    if step == "*":
        inside = data.values() if isinstance(data, dict) else data
        return (
            [found for item in inside for found in _sections(item, rest)]
            if isinstance(data, (list, dict))
            else []
        )
    return _sections(data.get(step), rest) if isinstance(data, dict) else []
