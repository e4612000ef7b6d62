"""The rules of access, read naively: a second reading, slow and without memory.

It takes the rules as the file has them, facts about credentials that the test has noted itself,
and judges each path that a backend might read on its own.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import unquote

_LISTS = ("allow", "deny", "require")


@dataclass
class Person:
    """A user, as the test knows it now."""

    name: str
    groups: set[str]
    email: str


@dataclass
class Known:
    """A credential, as the test knows it now."""

    kind: str
    name: str = ""
    person: Person | None = None
    creator: Person | None = None
    host: str = ""
    hosts: tuple[str, ...] = ()
    path: str = ""
    methods: tuple[str, ...] = ()
    method: str = ""
    ends_at: float = float("inf")
    idle: float = 0.0
    seen_at: float = 0.0
    proven_at: float = 0.0
    ended: bool = False
    sign_in: "Known | None" = None

    def lives(self, now: float) -> bool:
        if self.ended or now >= self.ends_at or (self.idle and now - self.seen_at >= self.idle):
            return False
        return self.sign_in is None or self.sign_in.lives(now)

    def is_good_for(self, host: str) -> bool:
        if self.kind in ("machine", "app"):
            wildcard = "*." + host.split(".", 1)[1]
            return not self.hosts or host in self.hosts or wildcard in self.hosts
        return self.host == host

    @property
    def last_proof(self) -> float:
        return max(self.proven_at, self.sign_in.proven_at if self.sign_in else 0.0)


@dataclass(frozen=True)
class Visit:
    """A request."""

    host: str
    target: str
    method: str
    client: str
    now: float


@dataclass
class NaiveReading:
    """The section `access`, as the file has it."""

    access: dict[str, Any]
    trace: list[str] = field(default_factory=list)

    def lets_in(self, known: Known | None, visit: Visit) -> bool:
        """Return True if the rules let the request pass, however a backend reads its path."""
        if known is not None and not (known.lives(visit.now) and known.is_good_for(visit.host)):
            known = None
        rule = self._rule(visit.host)
        if rule == "public":
            return True
        assert isinstance(rule, dict)
        return all(_passes(rule, known, visit, path) for path in readings(visit.target))

    def ends(self) -> list[float]:
        """Return the moments at which conditions of the rules end."""
        lists = [
            *(rule.get(key, []) for rule in self.access["rules"] for key in _LISTS),
            *(path["allow"] for rule in self.access["rules"] for path in rule.get("paths", [])),
        ]
        return [
            _end_of(item["until"])
            for items in lists
            if isinstance(items, list)
            for item in items
            if "until" in item
        ]

    def _rule(self, host: str) -> Any:
        for wanted in (host, "*." + host.split(".", 1)[1]):
            for rule in self.access["rules"]:
                if wanted in rule["hosts"]:
                    return rule
        default = self.access.get("default", "nobody")
        return default if default == "public" else {"allow": default}


def _end_of(day: str) -> float:
    return (datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()


def readings(target: str) -> set[str]:
    """Return what backends may read as the path: decoded or cleaned up, or only in part."""
    path = target.split("?", 1)[0]
    found = {unquote(path.replace("%2f", "%252f"))}
    while path != (path := unquote(path)):
        pass
    path = "/".join(segment.split(";", 1)[0] for segment in path.replace("\\", "/").split("/"))
    while "//" in path:
        path = path.replace("//", "/")
    return found | {path}


def _passes(rule: dict[str, Any], known: Known | None, visit: Visit, path: str) -> bool:
    if any(_holds(item, known, visit, path, deny=True) for item in rule.get("deny", [])):
        return False
    if not all(_holds(item, known, visit, path) for item in rule.get("require", [])):
        return False
    allow, ages = rule["allow"], [rule.get("max_age")]
    links = rule.get("links", False)
    for other in rule.get("paths", []):
        if any(_fits(pattern, path) for pattern in other["match"]):
            allow, links = other["allow"], False
            ages.append(other.get("fresh"))
            break
    if isinstance(allow, str):
        allow = [] if allow == "nobody" else [{allow: True}]
    for item in allow:
        if _holds(item, known, visit, path) and _is_recent(item, known, visit.now, ages):
            return True
    return links and known is not None and known.kind == "link" and _in_link(known, visit, path)


def _is_recent(
    item: dict[str, Any], known: Known | None, now: float, ages: list[float | None]
) -> bool:
    people = {"user", "group", "email_domain", "signed_in", "method"}
    if not people & item.keys() or {"app", "machine", "pin"} & item.keys():
        return True
    assert known is not None
    return all(age is None or now - known.last_proof < age for age in ages)


def _in_link(known: Known, visit: Visit, path: str) -> bool:
    prefix = known.path.rstrip("/")
    inside = not known.path or path == prefix or path.startswith(prefix + "/")
    return inside and (not known.methods or visit.method in known.methods)


def _fits(pattern: str, path: str) -> bool:
    if pattern.endswith("/*"):
        return path == pattern[:-2] or path.startswith(pattern[:-1])
    return path == pattern


def _holds(
    item: dict[str, Any], known: Known | None, visit: Visit, path: str, *, deny: bool = False
) -> bool:
    return all(_key_holds(key, value, known, visit, path, deny) for key, value in item.items())


def _key_holds(
    key: str, value: Any, known: Known | None, visit: Visit, path: str, deny: bool
) -> bool:
    kind = known.kind if known is not None else ""
    person = known.person if known is not None and kind in ("user", "app") else None
    if deny and known is not None and kind == "link":
        person = known.creator
    match key:
        case "anyone":
            return True
        case "path":
            return _fits(value, path)
        case "ip":
            return ip_address(visit.client) in ip_network(value)
        case "until":
            return visit.now < _end_of(value)
        case "machine" | "app":
            assert value.endswith("*")
            return known is not None and kind == key and known.name.startswith(value[:-1])
        case "pin":
            return kind == "pin"
        case "signed_in":
            return person is not None
        case "user":
            return person is not None and person.name == value
        case "group":
            return person is not None and value in person.groups
        case "email_domain":
            return person is not None and person.email.split("@")[1:] == [value]
        case "method":
            way = known.sign_in.method if known is not None and known.sign_in else ""
            return kind == "user" and way == value
    raise AssertionError(key)
