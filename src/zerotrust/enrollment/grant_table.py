"""Table of grants: the host names that each agent may serve.

A grant is an agent and a pattern. A pattern is a host name, or `*.` and a name, where the star
stands for exactly one label (RFC 6125 s6.4.3): `*.lab.example.com` matches `a.lab.example.com`, but
neither `lab.example.com` nor `a.b.lab.example.com`. So a lookup takes two dictionary accesses.

A grant of a wildcard allows a service with that wildcard, too. A grant of `*` allows that alone: a
service with `hostname: "*"`, which gets what no other service has, and no host name by name.

Patterns and host names are compared in the form that `model.base.parse_pattern` and
`normalise_host` return.
"""

from collections.abc import Iterable

from zerotrust.model.base import parse_pattern, wildcard_of

__all__ = ["Grant", "GrantTable", "parse_pattern"]

_NONE: frozenset[str] = frozenset()

Grant = tuple[str, str]
"""An agent and a pattern."""


class GrantTable:
    """All grants, from the server's file and from the database."""

    def __init__(self) -> None:
        self._sources: dict[str, frozenset[tuple[str, str]]] = {}
        self._agents: dict[str, frozenset[str]] = {}

    def replace(self, source: str, grants: Iterable[tuple[str, str]]) -> None:
        """Replace all grants of a source.

        Args:
            source: its name, for example "file" or "database".
            grants: agent and pattern, the pattern as `parse_pattern` returns it.
        """
        self._sources[source] = frozenset(grants)
        agents: dict[str, set[str]] = {}
        for agent, pattern in frozenset[tuple[str, str]]().union(*self._sources.values()):
            agents.setdefault(pattern, set()).add(agent)
        self._agents = {pattern: frozenset(names) for pattern, names in agents.items()}

    def of(self, source: str) -> frozenset[tuple[str, str]]:
        """Return the agent and pattern of each grant of a source."""
        return self._sources.get(source, frozenset())

    def may_serve(self, agent: str, host: str) -> bool:
        """Return True if the host name or wildcard is granted to the agent."""
        return agent in self._agents.get(host, _NONE) or agent in self._agents.get(
            wildcard_of(host), _NONE
        )

    def holders(self, pattern: str) -> frozenset[str]:
        """Return the agents that have a grant of exactly this host name or wildcard."""
        return self._agents.get(pattern, _NONE)

    def names(self, agent: str, host: str) -> bool:
        """Return True if the host name itself is granted to the agent, not only a wildcard."""
        return agent in self._agents.get(host, _NONE)

    def overlaps(self) -> list[tuple[Grant, Grant]]:
        """Return the pairs of a wildcard's grant and a host name's grant that match the same name.

        Without the pairs where one agent has the other's pattern too: they share it on purpose.
        """
        found: list[tuple[Grant, Grant]] = []
        for host, named in self._agents.items():
            wildcard = wildcard_of(host)
            holders = self._agents.get(wildcard, _NONE)
            found += [
                ((holder, wildcard), (agent, host))
                for holder in holders - named
                for agent in named - holders
            ]
        return sorted(found)
