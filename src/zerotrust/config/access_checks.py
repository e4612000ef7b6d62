"""Checks of the section `access` across several keys: names without meaning, hosts without effect.

Names of users and groups may also be in the database, so one that is not in the file is a warning,
and only where the file has a similar one.
"""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from zerotrust.config import secret_files
from zerotrust.config.diagnostics import KeyPath, Severity, suggestion
from zerotrust.config.ineffective_keys import items, section
from zerotrust.config.yaml_text import Document
from zerotrust.model.access import Access, Rule
from zerotrust.model.base import parse_pattern, wildcard_of
from zerotrust.model.condition import Condition
from zerotrust.model.server import ServerConfig

Found = tuple[KeyPath, Severity, str]
Placed = tuple[KeyPath, Condition]

IN_THE_CLEAR: Final = (
    "needs https: over http, a pass would travel in the clear; set listen_on to https or both"
)


def access_problems(config: ServerConfig, document: Document) -> Iterator[Found]:
    """Yield the problems of a server's section `access`."""
    access = config.access
    if access is None:
        return
    yield from _duplicate_hosts(access, document)
    yield from _own_hosts(access, config.grants)
    yield from _administrators(access)
    yield from _passkey_domain(access)
    yield from _issuers(access)
    yield from _files(access)
    for path, condition in _conditions(access):
        yield from _unknown_names(access, path, condition)
        yield from _unknown_providers(access, path, condition)
        if condition.country is not None and access.geo is None:
            yield (
                (*path, "country"),
                "error",
                "needs a database of countries: add geo: { database: GeoLite2-Country.mmdb } to"
                " access",
            )
    yield from _apps_without_users(access)


def empty_section(data: dict[str, Any]) -> Iterator[Found]:
    """Yield a section `access` without keys: somebody who writes it wants to close something."""
    if "access" in data and data["access"] is None:
        message = (
            "is empty, so everyone may enter everywhere: add auth_host and rules, or remove it"
        )
        yield ("access",), "error", message


def services_in_the_clear(data: dict[str, Any]) -> Iterator[Found]:
    """Yield the services of an agent's file that have `access` and listen on http alone."""
    for index, service in enumerate(items(data.get("services"))):
        if not isinstance(service, dict) or service.get("listen_on") != "http":
            continue
        if section(service, "access"):
            yield ("services", index, "access"), "error", IN_THE_CLEAR


def rule_hosts(data: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Yield the host names and wildcards of all rules in a server's file, each with its place."""
    for number, rule in enumerate(items(section(data, "access").get("rules"))):
        written = rule.get("hosts") if isinstance(rule, dict) else None
        for index, host in enumerate([written] if isinstance(written, str) else items(written)):
            if isinstance(host, str):
                yield ("access", "rules", number, "hosts", index), host.lower()


def _duplicate_hosts(access: Access, document: Document) -> Iterator[Found]:
    places: dict[str, KeyPath] = {}
    for path, rule in _rules(access):
        for index, host in enumerate(rule.hosts):
            here = (*path, "hosts", index)
            first = places.setdefault(host, here)
            if first != here:
                line = document.place(first).value[0]
                yield here, "error", f"{host} has a rule already (line {line}): remove one"


def _own_hosts(access: Access, grants: dict[str, list[str]]) -> Iterator[Found]:
    """Yield the rules and grants of host names that the server serves itself."""
    for key in ("auth_host", "admin_host"):
        own = getattr(access, key)
        if own is None:
            continue
        for path, rule in _rules(access):
            if own in rule.hosts:
                yield (
                    (*path, "hosts", rule.hosts.index(own)),
                    "warning",
                    f"has no effect: {own} is {key}, which the server serves itself; remove it",
                )
        for agent, patterns in grants.items():
            for pattern in patterns:
                if parse_pattern(pattern) in (own, wildcard_of(own)):
                    yield (
                        ("access", key),
                        "warning",
                        f"agent {agent} is granted {pattern}; agents never get this name",
                    )


def _administrators(access: Access) -> Iterator[Found]:
    if access.admin_host is not None and not (access.admins or access.viewers):
        text = "no one may open the dashboard: add admins, for example admins: [{ group: admins }]"
        yield ("access", "admin_host"), "warning", text


def _passkey_domain(access: Access) -> Iterator[Found]:
    domain = access.passkey_domain
    if domain is None or f".{access.auth_host}".endswith(f".{domain}"):
        return
    parent = access.auth_host.partition(".")[2]
    choices = access.auth_host if "." not in parent else f"{access.auth_host} or {parent}"
    yield (
        ("access", "passkey_domain"),
        "error",
        f"{domain} is no parent of auth_host, so browsers refuse passkeys: write {choices}",
    )


def _issuers(access: Access) -> Iterator[Found]:
    """Yield the providers whose own host name is behind a rule that needs a sign-in."""
    for name, provider in access.identity_providers.items():
        host = (provider.issuer or "").partition("://")[2].partition("/")[0].partition(":")[0]
        closed = (rule for _, rule in _rules(access) if rule.allow != "anyone")
        if any(host.lower() in rule.hosts for rule in closed):
            yield (
                ("access", "identity_providers", name, "issuer"),
                "warning",
                f"{host} has a rule that needs a sign-in, so it is not reachable for signing in:"
                " give it allow: anyone",
            )


def _files(access: Access) -> Iterator[Found]:
    """Yield the files that the server cannot read, or that all can.

    It starts without the secret of a provider, which it reads when somebody signs in.
    """
    for name, provider in access.identity_providers.items():
        path: KeyPath = ("access", "identity_providers", name)
        if provider.client_secret_file is not None:
            yield from _secret((*path, "client_secret_file"), provider.client_secret_file)
        elif provider.kind != "oidc":
            yield path, "warning", f"{provider.kind} asks for a secret: add client_secret_file"
    if access.geo is not None and not Path(access.geo.database).is_file():
        yield ("access", "geo", "database"), "error", f"there is no file {access.geo.database}"


def _secret(path: KeyPath, name: str) -> Iterator[Found]:
    contents: dict[str, bytes] = {}
    for message in secret_files.read(Path(name), name, contents):
        yield path, "warning", message
    if contents and (warning := secret_files.readable_by_all(Path(name), name)):
        yield path, "warning", warning


def _unknown_names(access: Access, path: KeyPath, condition: Condition) -> Iterator[Found]:
    users = [user.name for user in access.users]
    groups = sorted({group for user in access.users for group in user.groups})
    local = [group for group in condition.group or () if "/" not in group]
    for key, names, known in (("user", condition.user, users), ("group", local, groups)):
        for name in names or ():
            near = () if name in known else difflib.get_close_matches(name, known, n=1)
            if near and key == "user":
                message = f'no user of this file is "{name}", did you mean "{near[0]}"?'
                yield (*path, key), "warning", message
            elif near:
                message = f'no user of this file is in group "{name}", did you mean "{near[0]}"?'
                yield (*path, key), "warning", message


def _unknown_providers(access: Access, path: KeyPath, condition: Condition) -> Iterator[Found]:
    providers = access.identity_providers
    named = [("provider", name) for name in condition.provider or ()]
    named += [("group", g.partition("/")[0]) for g in condition.group or () if "/" in g]
    for key, name in named:
        if name not in providers:
            message = f'there is no identity provider "{name}"{suggestion(name, providers)}'
            yield (*path, key), "error", message
        elif key == "group" and providers[name].groups_claim is None:
            yield (
                (*path, key),
                "warning",
                f"identity_providers.{name} has no groups_claim, so its users have no groups: add"
                " it",
            )


def _apps_without_users(access: Access) -> Iterator[Found]:
    for path, rule in _rules(access):
        for where, condition in _allowed(path, rule):
            given = condition.given.keys()
            if "app" in given and not given & {"user", "group", "email", "email_domain", "claim"}:
                yield (
                    (*where, "app"),
                    "warning",
                    "users name their apps, so every user can have one of this name: add user or"
                    " group",
                )


def _rules(access: Access) -> Iterator[tuple[KeyPath, Rule]]:
    for index, rule in enumerate(access.rules):
        yield ("access", "rules", index), rule


def _conditions(access: Access) -> Iterator[Placed]:
    """Yield all conditions with their places."""
    yield from _listed(("access", "admins"), access.admins)
    yield from _listed(("access", "viewers"), access.viewers)
    for path, rule in _rules(access):
        yield from _allowed(path, rule)
        yield from _listed((*path, "deny"), rule.deny)
        yield from _listed((*path, "require"), rule.require)


def _allowed(path: KeyPath, rule: Rule) -> Iterator[Placed]:
    """Yield the conditions in `allow` of a rule and of its paths."""
    lists = [((*path, "allow"), rule.allow)]
    lists += [((*path, "paths", i, "allow"), one.allow) for i, one in enumerate(rule.paths)]
    for where, allow in lists:
        if isinstance(allow, list):
            yield from _listed(where, allow)


def _listed(path: KeyPath, conditions: Iterable[Condition]) -> Iterator[Placed]:
    for index, condition in enumerate(conditions):
        yield (*path, index), condition
