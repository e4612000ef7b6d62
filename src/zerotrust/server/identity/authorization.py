"""Whom the server lets in, and which host names it lets each serve: the word of file and database, held in memory."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from zerotrust.enrollment.grant_table import GrantTable

Watch = Callable[[str, Sequence[str], Sequence[str]], None]


class RevocationCheck(Protocol):
    """What has been revoked (db.revocations)."""

    def refuses(self, agent: str, serial: str) -> bool:
        """The agent, or this certificate of it, is revoked."""


class NothingRevoked:
    """Nothing has been revoked."""

    def refuses(self, agent: str, serial: str) -> bool:
        """Never."""
        return False


class Authorization:
    """Decides from memory alone, at once.

    Attributes:
        grants: which agent may serve which host name.
        revoked: who is not let in although its certificate is good.
        any_host: host names need no grant (`unsafe_agents_may_claim_any_host`).
        watch: hears of each claim: the agent, what it was granted, and what it was not.
    """

    def __init__(self, *, any_host: bool = False) -> None:
        self.grants = GrantTable()
        self.revoked: RevocationCheck = NothingRevoked()
        self.any_host = any_host
        self.watch: Watch | None = None

    def refusal(self, agent: str, serial: str) -> str | None:
        """Why an agent with this certificate is not let in; None where it is."""
        if self.revoked.refuses(agent, serial):
            return f'agent "{agent}" was revoked; on the server: 0trust agents restore {agent}'
        return None

    def claimed(self, agent: str, hosts: Iterable[str]) -> tuple[list[str], dict[str, str]]:
        """As `judge`, of the host names of a service."""
        granted, refused = self.judge(agent, hosts)
        if self.watch is not None:
            self.watch(agent, granted, list(refused))
        return granted, refused

    def judge(self, agent: str, hosts: Iterable[str]) -> tuple[list[str], dict[str, str]]:
        """The host names that the agent may serve, and why not for each of the others."""
        granted: list[str] = []
        refused: dict[str, str] = {}
        for host in hosts:
            if self.any_host or self.grants.may_serve(agent, host):
                granted.append(host)
            else:
                refused[host] = f"not granted to {agent}; on the server: 0trust grants add {agent} {host}"
        return granted, refused
