"""Which agent may serve which host name.

A grant is an agent and a pattern: a host name, or `*.` and a name where the star stands for exactly one label (RFC 6125
s6.4.3): `*.lab.example.com` is for `a.lab.example.com`, not for `lab.example.com` and not for `a.b.lab.example.com`. So
a lookup is two questions to a dictionary, however many grants there are.

Patterns and host names are compared in the form that `model.base.parse_pattern` and `normalise_host` give them.
"""

from collections.abc import Iterable

from zerotrust.model.base import parse_pattern

__all__ = ["Grant", "GrantTable", "parse_pattern", "wildcard_of"]

_NOBODY: frozenset[str] = frozenset()

Grant = tuple[str, str]
"""An agent and a pattern."""


def wildcard_of(host: str) -> str:
    """The one wildcard that stands for a host name."""
    return f"*.{host.partition('.')[2]}"


class GrantTable:
    """All grants, whatever they come from: the server's file, the database."""

    def __init__(self) -> None:
        self._sources: dict[str, frozenset[tuple[str, str]]] = {}
        self._agents: dict[str, frozenset[str]] = {}

    def replace(self, source: str, grants: Iterable[tuple[str, str]]) -> None:
        """Put other grants in the place of all that came from this source.

        Args:
            source: what names it, for example "file" or "database".
            grants: agent and pattern, the pattern as `parse_pattern` returns it.
        """
        self._sources[source] = frozenset(grants)
        agents: dict[str, set[str]] = {}
        for agent, pattern in frozenset[tuple[str, str]]().union(*self._sources.values()):
            agents.setdefault(pattern, set()).add(agent)
        self._agents = {pattern: frozenset(names) for pattern, names in agents.items()}

    def of(self, source: str) -> frozenset[tuple[str, str]]:
        """Agent and pattern of all grants that come from this source."""
        return self._sources.get(source, frozenset())

    def may_serve(self, agent: str, host: str) -> bool:
        """The host name is granted to the agent."""
        return agent in self._agents.get(host, _NOBODY) or agent in self._agents.get(wildcard_of(host), _NOBODY)

    def names(self, agent: str, host: str) -> bool:
        """The host name itself is granted to the agent, not only a wildcard that stands for it."""
        return agent in self._agents.get(host, _NOBODY)

    def overlaps(self) -> list[tuple[Grant, Grant]]:
        """Return a wildcard's grant and a host name's grant for each two agents that may both serve the host name.

        Not where one of them has the other's pattern too: then they share it on purpose.
        """
        found: list[tuple[Grant, Grant]] = []
        for host, named in self._agents.items():
            wildcard = wildcard_of(host)
            holders = self._agents.get(wildcard, _NOBODY)
            found += [((holder, wildcard), (agent, host)) for holder in holders - named for agent in named - holders]
        return sorted(found)
