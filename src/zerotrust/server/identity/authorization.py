"""Authorization of agents: revocations and granted host names, held in memory."""

import shlex
from collections.abc import Iterable
from typing import Protocol

from zerotrust.enrollment.grant_table import GrantTable


class RevocationCheck(Protocol):
    """Revoked agents and certificates (db.revocations)."""

    def refuses(self, agent: str, serial: str) -> bool:
        """Return True where the agent, or this certificate of it, is revoked."""


class NothingRevoked:
    """Revocation check without revocations."""

    def refuses(self, agent: str, serial: str) -> bool:
        """Return False."""
        return False


class Authorization:
    """Decides from copies in memory of the server's file and database.

    Attributes:
        grants: host names that each agent may serve.
        revoked: agents and certificates that are rejected.
        any_host: agents may serve host names without a grant (`unsafe_agents_may_claim_any_host`).
        reserved: host names that the server serves itself; no grant lets an agent serve them.
    """

    def __init__(self, *, any_host: bool = False, reserved: frozenset[str] = frozenset()) -> None:
        self.grants = GrantTable()
        self.revoked: RevocationCheck = NothingRevoked()
        self.any_host = any_host
        self.reserved = reserved

    def refusal(self, agent: str, serial: str) -> str | None:
        """Return the reason to reject an agent with this certificate; None where it is accepted."""
        if self.revoked.refuses(agent, serial):
            return f'agent "{agent}" was revoked; on the server: 0trust agents restore {agent}'
        return None

    def may_serve(self, agent: str, host: str) -> bool:
        """Return True where the agent may serve the host name or wildcard."""
        if host in self.reserved:
            return False
        return self.any_host or self.grants.may_serve(agent, host)

    def judge(self, agent: str, hosts: Iterable[str]) -> tuple[list[str], dict[str, str]]:
        """Return the host names that the agent may serve, and the others, each with the reason."""
        granted: list[str] = []
        refused: dict[str, str] = {}
        for host in hosts:
            if self.may_serve(agent, host):
                granted.append(host)
            elif host in self.reserved:
                refused[host] = (
                    "a host name of the server itself (access in its file); use another name"
                )
            else:
                refused[host] = (
                    f"not granted to {agent}; on the server:"
                    f" 0trust grants add {agent} {shlex.quote(host)}"
                )
        return granted, refused
