"""Gates of all host names, by the section `access` of the server's file."""

from typing import Final

from zerotrust.access.conditions import CountryOf, no_country
from zerotrust.access.gate import CompiledRule, Gate
from zerotrust.model.access import Access, Rule
from zerotrust.model.base import CATCH_ALL, wildcard_of
from zerotrust.model.condition import Condition

_MAX_OTHER_HOSTS: Final = 4096
"""Host names without a rule of their own whose gates are kept."""


class GateTable:
    """The gate of each host name. Immutable; it is replaced as a whole when the rules change.

    Args:
        country_of: looks up the country of an address.

    Attributes:
        country_of: looks up the country of an address.
        admins: the gate of `admin_host` for those who may change something; None without one.
    """

    def __init__(self, access: Access, *, country_of: CountryOf = no_country) -> None:
        self.access = access
        self.auth_host = access.auth_host
        self.admin_host = access.admin_host
        self.country_of = country_of
        self._exact: dict[str, Gate] = {}
        self._wildcards: dict[str, CompiledRule] = {}
        self._others: dict[str, Gate | None] = {}
        for rule in access.rules:
            self._add(rule)
        self._default = self._default_rule()
        closed = self._compile(Rule(hosts=[access.auth_host], allow="nobody"))
        self._exact[access.auth_host] = Gate(access.auth_host, access.auth_host, closed)
        self.admins: Gate | None = None
        if access.admin_host is not None:
            changed_by = self._compile(_rule_for(access.admin_host, access.admins))
            self.admins = Gate(access.admin_host, access.admin_host, changed_by)
            seen_by = _rule_for(access.admin_host, [*access.admins, *access.viewers])
            admin = Gate(access.admin_host, access.admin_host, self._compile(seen_by))
            self._exact[access.admin_host] = admin

    def find(self, host: str) -> Gate | None:
        """Return the gate of a normalised host name; None if everybody may enter.

        The exact name comes before the wildcard, and both before `default`.
        """
        gate = self._exact.get(host)
        return gate if gate is not None else self._find_other(host)

    def is_reserved(self, host: str) -> bool:
        """Return True for the host names that the server serves itself."""
        return host == self.auth_host or host == self.admin_host  # noqa: PLR1714 - each request asks

    def _add(self, rule: Rule) -> None:
        compiled = self._compile(rule)
        for name in rule.hosts:
            if name.startswith("*."):
                self._wildcards.setdefault(name, compiled)
            else:
                self._exact.setdefault(name, Gate(name, name, compiled))

    def _compile(self, rule: Rule) -> CompiledRule:
        return CompiledRule(rule, country_of=self.country_of)

    def _default_rule(self) -> CompiledRule | None:
        default = self.access.default
        if default == "public":
            return None
        return self._compile(Rule.model_validate({"hosts": ["default"], "allow": default}))

    def _find_other(self, host: str) -> Gate | None:
        if host in self._others:
            return self._others[host]
        pattern = wildcard_of(host)
        compiled = self._wildcards.get(pattern)
        if compiled is None:
            pattern, compiled = CATCH_ALL, self._default
        gate = None if compiled is None else Gate(host, pattern, compiled)
        if len(self._others) >= _MAX_OTHER_HOSTS:
            self._others.clear()
        self._others[host] = gate
        return gate


def _rule_for(host: str, conditions: list[Condition]) -> Rule:
    return Rule(hosts=[host], allow=conditions or "nobody")
