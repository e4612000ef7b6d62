"""Gate of a host name: judges whether a credential opens a request.

The order is: `deny` (one that holds refuses), `require` (all must hold), `allow` (one must hold;
the first of `paths` that matches brings its own), the age of the last proof of identity (`max_age`,
`fresh`). A path is judged in each way in which a backend may read it; where its readings lead to
different results, the request gets 400.

* Only a pass of this host name counts, or a token that is good for it. Everything else, and a
  credential that has ended, counts as none.
* A share link fulfils the `allow` of a rule with `links: true`, within its path prefix and its
  methods. It never fulfils an `allow` in `paths`, unless that is for anyone.
* Proofs of identity are asked of users and their apps. Conditions that name machines, apps or the
  PIN ask for none, as these show their secret with each request or have no identity.

A verdict is remembered in the credential if no request can change it: until the rules change, the
subject changes, or a moment at which it would become another one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Final, NamedTuple

from zerotrust.access.conditions import (
    FOREVER,
    CompiledCondition,
    CountryOf,
    may_sign_in,
    no_country,
    path_holds,
    path_match,
)
from zerotrust.access.gate_request import GateRequest
from zerotrust.access.link_scope import in_scope
from zerotrust.access.profiles import PROFILES
from zerotrust.access.subject import Credential, CredentialKind, SubjectKind
from zerotrust.model.access import PathRule, Rule
from zerotrust.model.base import patterns_of
from zerotrust.model.condition import Allow, Condition, alternatives
from zerotrust.routing.match import Match

__all__ = ["CompiledRule", "Gate", "GateRequest", "PathGate", "Verdict", "VerdictKind", "pass_for"]

_MAX_REMEMBERED: Final = 64
"""Gates whose verdicts a token remembers; a pass has one."""

_NUMBERS: Final = count(1)


class VerdictKind(Enum):
    """Results of a judgement."""

    ALLOW = "allow"
    SIGN_IN = "sign_in"
    """There is no credential that counts, and one might open the request."""
    PROVE_AGAIN = "prove_again"
    """The last proof of identity is too old (`max_age`, `fresh`)."""
    DENY = "deny"


class Verdict(NamedTuple):
    """Result of a judgement.

    Attributes:
        reason: the place in the rule that decided, such as `deny[0]`, for logs.
    """

    kind: VerdictKind
    reason: str


ALLOWED: Final = Verdict(VerdictKind.ALLOW, "allow")
ALLOWED_BY_PROFILE: Final = Verdict(VerdictKind.ALLOW, "profile")
"""The rate limit of the profile applies (`access.profiles`)."""


@dataclass(frozen=True, slots=True)
class PathGate:
    """One of `paths`: patterns, and the conditions in place of the rule's `allow`.

    Attributes:
        limit: longest time since the last proof of identity; infinite without one.
        place: its place in the rule, for logs.
        methods: the methods that it applies to; None for all.
    """

    matches: tuple[Match, ...]
    allow: tuple[CompiledCondition, ...]
    limit: float
    place: str
    methods: frozenset[bytes] | None = None

    def applies(self, request: GateRequest) -> bool:
        """Return True if the path and the method match.

        Raises:
            AmbiguousPath, PathTooLong: as `conditions.path_holds`.
        """
        return (self.methods is None or request.method in self.methods) and path_holds(
            self.matches, request
        )


class CompiledRule:
    """A rule of the configuration with its conditions compiled.

    Attributes:
        whole: `allow` and limit outside of `paths`.
        named_groups: the groups that the rule names; backends are told of no others.
        named_claims: the claims that the rule names.
        asks_pin: a PIN may open the host name.
        token_styles: other products whose header fields may have a token.
    """

    __slots__ = (
        "asks_pin",
        "deny",
        "model",
        "named_claims",
        "named_groups",
        "paths",
        "require",
        "token_styles",
        "whole",
    )

    def __init__(self, model: Rule, *, country_of: CountryOf = no_country) -> None:
        self.model = model
        self.token_styles = tuple(model.token_headers)
        self.deny = tuple(
            CompiledCondition(item, country_of=country_of, place=f"deny[{index}]", deny=True)
            for index, item in enumerate(model.deny)
        )
        self.require = tuple(
            CompiledCondition(item, country_of=country_of, place=f"require[{index}]")
            for index, item in enumerate(model.require)
        )
        limit = model.max_age or FOREVER
        self.whole = PathGate((), _compiled(model.allow, "allow", country_of), limit, "allow")
        self.paths = tuple(
            _path_gate(path, limit, f"paths[{index}].allow", country_of)
            for index, path in enumerate(model.paths)
        )
        if model.profile is not None:
            profile = PROFILES[model.profile]
            self.paths += tuple(
                _path_gate(path, limit, f"profile {model.profile}", country_of, profile.methods)
                for path in profile.paths
            )
        conditions = list(_conditions(model))
        self.named_groups = frozenset(group for item in conditions for group in item.group or ())
        self.named_claims = frozenset(name for item in conditions for name in item.claim or ())
        self.asks_pin = any(item.pin for item in conditions)


def _path_gate(
    path: PathRule,
    limit: float,
    place: str,
    country_of: CountryOf,
    methods: frozenset[bytes] | None = None,
) -> PathGate:
    return PathGate(
        tuple(path_match(pattern) for pattern in path.match),
        _compiled(path.allow, place, country_of),
        min(limit, path.fresh or FOREVER),
        place,
        methods,
    )


def _compiled(allow: Allow, place: str, country_of: CountryOf) -> tuple[CompiledCondition, ...]:
    """Return the conditions of `allow`: first those which need no look at the request."""
    places = isinstance(allow, list)
    compiled = [
        CompiledCondition(
            item, country_of=country_of, place=f"{place}[{index}]" if places else place
        )
        for index, item in enumerate(alternatives(allow))
    ]
    return tuple(sorted(compiled, key=lambda item: (bool(item.request_tests), item.needs_proof)))


def _conditions(rule: Rule) -> Iterator[Condition]:
    for allow in (rule.allow, *(path.allow for path in rule.paths)):
        yield from alternatives(allow)
    yield from rule.deny
    yield from rule.require


class Gate:
    """The rule of one host name. Immutable; it is replaced when the rules change.

    Attributes:
        host: the host name.
        host_pattern: the name or wildcard by which the rule was chosen; `*` for `default`.
    """

    __slots__ = ("_hosts", "_number", "compiled", "host", "host_pattern")

    def __init__(self, host: str, host_pattern: str, compiled: CompiledRule) -> None:
        self.host = host
        self.host_pattern = host_pattern
        self.compiled = compiled
        self._hosts = patterns_of(host)[:2]
        self._number = next(_NUMBERS)

    @property
    def rule(self) -> Rule:
        """Return the rule of the configuration, or one in the place of `default`."""
        return self.compiled.model

    @property
    def named_groups(self) -> frozenset[str]:
        """Return the groups that the rule names."""
        return self.compiled.named_groups

    @property
    def named_claims(self) -> frozenset[str]:
        """Return the claims that the rule names."""
        return self.compiled.named_claims

    @property
    def asks_pin(self) -> bool:
        """Return True if a PIN may open the host name."""
        return self.compiled.asks_pin

    def judge(self, credential: Credential | None, request: GateRequest) -> Verdict:
        """Return the verdict for a request.

        Raises:
            AmbiguousPath, PathTooLong: the path decides, and backends may read it in several ways,
                or it is too long.
            ClientAddressUnreadable: the client's address decides a `deny`, and is unknown.
        """
        now = request.unix_time
        if credential is not None:
            if credential.end_reason(now):
                credential = None
            elif credential.verdicts is not None and now < credential.verdicts.get(
                self._number, 0.0
            ):
                return ALLOWED
            elif not self.counts(credential):
                credential = None
        judgement = _Judgement(self.compiled, credential, request)
        verdict = judgement.verdict()
        if credential is not None and verdict is ALLOWED and not judgement.looked_at_request:
            self._remember(credential, judgement.until)
        return verdict

    def remembers(self, credential: Credential, now: float) -> bool:
        """Return True if a credential in force opens every request, by an earlier verdict."""
        verdicts = credential.verdicts
        return (
            verdicts is not None
            and now < verdicts.get(self._number, 0.0)
            and not credential.end_reason(now)
        )

    def counts(self, credential: Credential) -> bool:
        """Return True if a credential is good for this host name, whatever the rule says."""
        if credential.kind is CredentialKind.PASS:
            return credential.host == self.host
        if credential.kind is CredentialKind.TOKEN:
            return not credential.hosts or any(name in credential.hosts for name in self._hosts)
        return False

    def _remember(self, credential: Credential, until: float) -> None:
        if credential.verdicts is None or len(credential.verdicts) >= _MAX_REMEMBERED:
            credential.verdicts = {}
        credential.verdicts[self._number] = until


class _Judgement:
    """One judgement.

    Attributes:
        looked_at_request: the verdict depends on more than the credential.
        until: the verdict may become another one at this moment.
    """

    __slots__ = ("_credential", "_request", "_rule", "looked_at_request", "until")

    def __init__(
        self, rule: CompiledRule, credential: Credential | None, request: GateRequest
    ) -> None:
        self._rule = rule
        self._credential = credential
        self._request = request
        self.looked_at_request = False
        self.until = FOREVER

    def verdict(self) -> Verdict:
        """Return the verdict; raises as `Gate.judge`."""
        for item in self._rule.deny:
            if self._holds(item):
                return Verdict(VerdictKind.DENY, item.place)
        for item in self._rule.require:
            if not self._holds(item):
                return self._not_let_in((item,), item.place)
        return self._by_allow(self._chosen())

    def _by_allow(self, chosen: PathGate) -> Verdict:
        stale = False
        for item in chosen.allow:
            if (stale and item.needs_proof) or not self._holds(item):
                continue
            if not item.needs_proof or self._proven_within(chosen.limit):
                return ALLOWED if chosen.methods is None else ALLOWED_BY_PROFILE
            stale = True
        if stale:
            return Verdict(VerdictKind.PROVE_AGAIN, chosen.place)
        if chosen is self._rule.whole and self._opened_by_link():
            return ALLOWED
        return self._not_let_in(chosen.allow, chosen.place)

    def _holds(self, item: CompiledCondition) -> bool:
        if not item.fits_subject(self._credential, self._request.unix_time):
            return False
        self.until = min(self.until, item.ends_at)
        if not item.request_tests:
            return True
        self.looked_at_request = True
        return item.fits_request(self._request)

    def _chosen(self) -> PathGate:
        for path in self._rule.paths:
            self.looked_at_request = True
            if path.applies(self._request):
                return path
        return self._rule.whole

    def _proven_within(self, limit: float) -> bool:
        if limit == FOREVER:
            return True
        credential = self._credential
        assert credential is not None  # a condition that needs a proof holds for no one else
        proven_at = credential.proven_at
        if credential.sign_in is not None:
            proven_at = max(proven_at, credential.sign_in.proven_at)
        self.until = min(self.until, proven_at + limit)
        return self._request.unix_time < proven_at + limit

    def _opened_by_link(self) -> bool:
        credential = self._credential
        if (
            credential is None
            or credential.subject.kind is not SubjectKind.LINK
            or not self._rule.model.links
        ):
            return False
        self.looked_at_request = True
        return in_scope(credential, self._request)

    def _not_let_in(self, wanted: Sequence[CompiledCondition], place: str) -> Verdict:
        """Return SIGN_IN if someone else might fulfil one of the conditions, else DENY."""
        if may_sign_in(wanted, self._credential, self._request):
            return Verdict(VerdictKind.SIGN_IN, place)
        return Verdict(VerdictKind.DENY, place)


def pass_for(sign_in: Credential, host: str) -> Credential:
    """Return the pass that a sign-in would have for a host name, to judge before it is made."""
    return Credential(
        CredentialKind.PASS,
        "",
        digest=b"",
        subject=sign_in.subject,
        ends_at=sign_in.ends_at,
        sign_in=sign_in,
        proven_at=sign_in.proven_at,
        method=sign_in.method,
        host=host,
    )
