"""Warnings and suggestions of commands about access, from the configuration in force."""

import difflib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from zerotrust.access.gate import Gate
from zerotrust.model.access import Access, Rule
from zerotrust.model.base import is_pattern, patterns_of
from zerotrust.model.condition import Condition, alternatives
from zerotrust.model.service_access import ServiceAccess


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean "NAME"?` for the known name that is most like this one, or ""."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f', did you mean "{near[0]}"?' if near else ""


def named_groups(access: Access) -> frozenset[str]:
    """Return the groups that rules, `admins` or `viewers` name."""
    return frozenset(group for condition in _conditions(access) for group in condition.group or ())


def group_warnings(access: Access, group: str) -> list[str]:
    """Return a warning if no rule names a group, so that its members may enter nothing by it."""
    known = named_groups(access)
    if group in known:
        return []
    return [f'no rule names the group "{group}"{did_you_mean(group, known)}']


def token_hosts(access: Access, kind: str, name: str, hosts: Iterable[str]) -> list[str]:
    """Return host names whose rule allows a machine or app by its name, in their order.

    Args:
        kind: `machine` or `app`.
        hosts: host names and wildcards that the token is good for; none: all.
    """
    limits = list(hosts)
    return [
        host
        for rule in access.rules
        if any(
            fnmatchcase(name, pattern)
            for condition in _allowing(rule)
            for pattern in getattr(condition, kind) or ()
        )
        for host in rule.hosts
        if not limits or host in limits
    ]


def machine_warnings(access: Access, name: str, hosts: Iterable[str]) -> list[str]:
    """Return a warning if no rule allows a machine, so that its token opens nothing."""
    if token_hosts(access, "machine", name, hosts):
        return []
    return [
        f"no rule allows this machine yet; add to `allow` of a rule: {{ machine: {name} }}",
    ]


def admin_token_warnings(access: Access, hosts: Iterable[str]) -> list[str]:
    """Return a warning if a token for the admin API cannot be used there."""
    admin_host, names = access.admin_host, set(hosts)
    if admin_host is None:
        return ["the server's file names no access.admin_host, where the token could be used"]
    if names and names.isdisjoint(patterns_of(admin_host)[:2]):
        return [f"the token is not good for {admin_host}, the host of the admin API"]
    return []


def example_host(hosts: Iterable[str]) -> str | None:
    """Return the first host name that is no wildcard."""
    return next((host for host in hosts if not is_pattern(host)), None)


def is_public(gate: Gate | None) -> bool:
    """Return True if the rule of a host name lets everybody in, except for some paths."""
    if gate is None:
        return True
    rule = gate.rule
    return rule.allow == "anyone" and not rule.deny and not rule.require


def pin_warnings(gate: Gate | None, host: str) -> list[str]:
    """Return a warning if the rule of a host name asks for no PIN."""
    if gate is None or is_public(gate):
        return [f"{host} is public: no visitor is asked for the PIN"]
    if gate.asks_pin:
        return []
    return [f"the rule of {host} asks for no PIN yet; add to its `allow`: {{ pin: true }}"]


def link_warnings(rule: Rule, agent: str, narrowing: ServiceAccess | None) -> list[str]:
    """Return a warning for each `require` that the visitors of a share link can't meet.

    Args:
        agent, narrowing: the agent of the host name, and its service's section `access`.
    """
    found = []
    if any(condition.names_subjects for condition in rule.require):
        found.append("`require` of the rule asks for a user or machine: the link opens nothing")
    if narrowing is not None and any(one.names_subjects for one in narrowing.require):
        found.append(
            f"the service in the file of agent {agent} asks for a user or machine"
            " (access.require): the link opens nothing"
        )
    return found


def _allowing(rule: Rule) -> Iterator[Condition]:
    for allow in (rule.allow, *(one.allow for one in rule.paths)):
        yield from alternatives(allow)


def _conditions(access: Access) -> Iterator[Condition]:
    yield from access.admins
    yield from access.viewers
    for rule in access.rules:
        yield from _allowing(rule)
        yield from rule.deny
        yield from rule.require
