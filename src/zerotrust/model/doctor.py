"""Findings of `0trust doctor`, and the facts that a running server tells it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Level = Literal["warning", "broken"]
HopName = Literal["dns", "tcp", "tls", "caddy", "server", "policy", "agent", "upstream", "upgrade"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Finding(_Frozen):
    """One thing that is wrong.

    `check` names the check, `subject` the host name, file or address. `what` is wrong, `seen` is
    the observation behind it, and `fix` is the thing to do.
    """

    check: str
    level: Level
    subject: str
    what: str
    seen: str = ""
    fix: str

    def __str__(self) -> str:
        seen = f" ({self.seen})" if self.seen else ""
        return f"{self.what}{seen}; {self.fix}"


class Examination(_Frozen):
    """All findings about a configuration file. `hosts` counts its host names."""

    file: str
    kind: Literal["server", "agent"]
    hosts: int
    findings: list[Finding]


class Hop(_Frozen):
    """One hop on the way to a URL.

    `outcome` is `passed`, `ended` (the request got no further) or `unknown`. `milliseconds` is the
    time of this hop alone; null if it cannot be told apart.
    """

    name: HopName
    outcome: Literal["passed", "ended", "unknown"]
    milliseconds: float | None = None
    seen: str = ""
    fix: str = ""


class Trace(_Frozen):
    """All hops on the way to a URL. `ends_at` is the hop that the request did not pass."""

    url: str
    hops: list[Hop]
    ends_at: HopName | None = None


class HostFact(_Frozen):
    """A host name that an agent has registered.

    `refusal` is the reason if the server does not serve it. `secured` is false for a service that
    listens on http alone. `round_trip` is the time to the agent
    and back, in milliseconds. An agent that is not `connected` has lost its connection.
    """

    host: str
    agent: str
    service: str
    refusal: str = ""
    secured: bool = True
    connected: bool = True
    round_trip: float | None = None


class DoctorFacts(_Frozen):
    """Facts about a running server.

    `contested` lists agents whose identity two processes use at the same time. `other_passkeys` is
    the number of passkeys for another domain. `groupless` is the number of accounts without groups
    at each identity provider that has a `groups_claim`, if all its accounts are without.
    `differing` lists the servers of the same database that have another section `access`;
    `database_ahead` are the seconds that the clock of a shared database is ahead. `members` are the
    addresses for agents of the other members.
    """

    version: str
    unix_time: float
    descriptors: int
    hosts: list[HostFact] = []
    contested: list[str] = []
    other_passkeys: int = 0
    groupless: dict[str, int] = {}
    differing: list[str] = []
    database_ahead: float | None = None
    members: list[str] = []
