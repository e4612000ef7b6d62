"""Settings about trust for the audit log, which shows changes made while no server ran."""

import hashlib
from pathlib import Path

from zerotrust.model.server import ServerConfig
from zerotrust.server.identity.authority import Authority, issuer_serial


def configured_grants(config: ServerConfig) -> list[tuple[str, str]]:
    """Return agents with the patterns of host names that the file grants to them."""
    return [(agent, pattern) for agent, patterns in config.grants.items() for pattern in patterns]


def trust_settings(
    config: ServerConfig, authority: Authority | None
) -> dict[str, str | bool | None]:
    """Return who may connect and serve host names; long settings as a SHA-256 digest."""
    grants = "\n".join(f"{agent} {pattern}" for agent, pattern in sorted(configured_grants(config)))
    return {
        "grants": _digest(grants.encode()),
        "any_host": config.unsafe_agents_may_claim_any_host,
        "ca_file": _digest(Path(config.server.ca_file).read_bytes()),
        "issuer": issuer_serial(authority),
    }


def access_settings(config: ServerConfig, *, server: str) -> dict[str, str]:
    """Return the name of a server, and the digest by which others compare its `access`."""
    access = config.access
    text = "" if access is None else access.model_dump_json()
    return {"server": server, "access": _digest(text.encode())}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
