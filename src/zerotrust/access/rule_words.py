"""Rules of access in words, for `access list`, `access explain` and `config check`."""

from collections.abc import Iterator
from typing import NamedTuple

from zerotrust.access.profiles import PROFILES
from zerotrust.model.access import Access, Rule
from zerotrust.model.condition import Allow, Condition

_KEYS = {
    "user": "user",
    "group": "group",
    "email": "email",
    "email_domain": "email domain",
    "provider": "provider",
    "machine": "machine",
    "app": "app",
    "ip": "from",
    "country": "country",
    "path": "at",
    "method": "signed in by",
}
_ALONE = {"pin": "with the PIN", "signed_in": "everyone who has signed in", "anyone": "everyone"}
_DEFAULTS = {
    "nobody": "no one",
    "public": "everyone, without signing in",
    "signed_in": "everyone who has signed in",
}


class HostAccess(NamedTuple):
    """A host name or wildcard, and in words who may enter."""

    host: str
    words: str

    def __str__(self) -> str:
        return f"{self.host}: {self.words}"


def who_may_enter(access: Access) -> list[HostAccess]:
    """Return for each host name and wildcard who may enter, and at last for all others."""
    found = [HostAccess(host, rule_words(rule)) for rule in access.rules for host in rule.hosts]
    if access.admin_host is not None:
        found.append(HostAccess(access.admin_host, _administrators(access)))
    return [*found, HostAccess("every other host name", _DEFAULTS[access.default])]


def rule_words(rule: Rule) -> str:
    """Return a rule in one line."""
    return "; ".join(_parts(rule))


def condition_words(condition: Condition) -> str:
    """Return a condition in words: `group family, at /config/*, until 2027-03-31`."""
    return ", ".join(_key_words(key, value) for key, value in condition.given.items())


def _parts(rule: Rule) -> Iterator[str]:
    yield allow_words(rule.allow)
    for condition in rule.deny:
        yield f"never {condition_words(condition)}"
    for condition in rule.require:
        yield f"only {condition_words(condition)}"
    if rule.max_age is not None:
        yield f"identity proven within {_duration(rule.max_age)}"
    for path in rule.paths:
        fresh = "" if path.fresh is None else f" (proven within {_duration(path.fresh)})"
        yield f"{', '.join(path.match)}: {allow_words(path.allow)}{fresh}"
    if rule.links:
        yield "share links"
    if rule.profile is not None:
        yield PROFILES[rule.profile].says
    if rule.preflights == "backend":
        yield "CORS preflights of everyone"


def allow_words(allow: Allow) -> str:
    """Return `allow` in words."""
    if isinstance(allow, list):
        return " or ".join(map(condition_words, allow))
    return "everyone" if allow == "anyone" else _DEFAULTS[allow]


def _administrators(access: Access) -> str:
    admins, viewers = (
        " or ".join(map(condition_words, conditions)) or "no one"
        for conditions in (access.admins, access.viewers)
    )
    return f"the dashboard, for {admins}" + (f"; to read, {viewers}" if access.viewers else "")


def _key_words(key: str, value: object) -> str:
    if key in _ALONE:
        return _ALONE[key]
    if key == "until":
        return f"until {value}"
    if isinstance(value, dict):
        return ", ".join(f"claim {name} {_listed(texts)}" for name, texts in value.items())
    return f"{_KEYS[key]} {_listed(value) if isinstance(value, list) else value}"


def _listed(values: list[str]) -> str:
    shown = values if len(values) < 4 else [*values[:3], f"… ({len(values)} in all)"]
    return " | ".join(shown)


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
