"""Compiled conditions of access.

A condition has two parts: what it says about the subject, which depends on the credential alone,
and what it says about the circumstances (address, country, path), which depends on each request. A
gate may remember a verdict for which only first parts were needed.

In `deny`, doubt counts against the subject: a client without a readable address gets 400 where the
address decides, and a share link counts as the user who has created it.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from zerotrust.access.gate_request import GateRequest
from zerotrust.access.subject import Credential, Subject, SubjectKind
from zerotrust.errors import ClientAddressUnreadable
from zerotrust.limits.network_set import NetworkSet
from zerotrust.model.access_names import UNKNOWN_COUNTRY
from zerotrust.model.condition import Condition
from zerotrust.model.service import RouteMatch
from zerotrust.routing.match import AmbiguousPath, Match

CountryOf = Callable[[str], str | None]
"""Returns the country of an address, ISO 3166-1 alpha-2, or None if it is unknown."""

SubjectTest = Callable[[Credential], bool]
RequestTest = Callable[[GateRequest], bool]

_WITHOUT_PERSON: Final = (SubjectKind.LINK, SubjectKind.PIN)
FOREVER: Final = float("inf")
AMBIGUOUS: Final = "the path is ambiguous: its readings fall under different rules of access"


def may_sign_in(
    wanted: Iterable["CompiledCondition"], credential: Credential | None, request: GateRequest
) -> bool:
    """Return True if no one is known, and somebody who is might fulfil one of the conditions.

    Raises:
        AmbiguousPath, PathTooLong: as `CompiledCondition.fits_request`.
    """
    if credential is not None and credential.subject.kind not in _WITHOUT_PERSON:
        return False
    return any(
        item.about_subjects and request.unix_time < item.ends_at and item.fits_request(request)
        for item in wanted
    )


def no_country(_address: str) -> None:
    """Return None: without a database, every country is unknown."""


def person_of(subject: Subject) -> Subject | None:
    """Return the user who a subject is or acts for; None for machines, links and PINs."""
    if subject.kind is SubjectKind.USER:
        return subject
    return subject.owner if subject.kind is SubjectKind.APP else None


def path_holds(matches: Iterable[Match], request: GateRequest) -> bool:
    """Return True if each reading of the path fits one of the patterns, False if none does.

    Raises:
        AmbiguousPath: some readings fit, others do not; or as `GateRequest.readings`.
        PathTooLong: as `GateRequest.readings`.
    """
    readings = request.readings
    fitting = sum(any(match.path_fits(path) for match in matches) for path in readings)
    if 0 < fitting < len(readings):
        raise AmbiguousPath(AMBIGUOUS)
    return fitting > 0


def path_match(pattern: str) -> Match:
    """Return the compiled pattern of a path."""
    return Match(RouteMatch(path=pattern))


class CompiledCondition:
    """A condition of the configuration, ready to be judged.

    Args:
        place: its place in the rule, such as `deny[0]`, for logs and explanations.
        deny: it stands in `deny`.

    Attributes:
        model: the condition as it is written.
        about_subjects: it says something about the subject, so no one fulfils it without a
            credential.
        needs_proof: it lets users in, whose last proof of identity may be too old. False where it
            names machines, apps or the PIN.
        ends_at: it does not hold from this moment on, in seconds since 1970.
        subject_tests, request_tests: its keys with their tests, for explanations.
    """

    __slots__ = (
        "about_subjects",
        "ends_at",
        "model",
        "needs_proof",
        "place",
        "request_tests",
        "subject_tests",
    )

    def __init__(
        self,
        model: Condition,
        *,
        country_of: CountryOf = no_country,
        place: str = "",
        deny: bool = False,
    ) -> None:
        self.model = model
        self.place = place
        self.about_subjects = model.names_subjects
        self.needs_proof = self.about_subjects and not (model.machine or model.app or model.pin)
        self.ends_at = FOREVER if model.until is None else _end_of(model.until)
        self.subject_tests = _subject_tests(model, deny=deny)
        self.request_tests = _request_tests(model, country_of, deny=deny)

    def fits_subject(self, credential: Credential | None, now: float) -> bool:
        """Return True if the part that does not depend on the request holds."""
        if now >= self.ends_at:
            return False
        if not self.subject_tests:
            return True
        return credential is not None and all(test(credential) for _, test in self.subject_tests)

    def failures(self, credential: Credential | None, request: GateRequest) -> Iterator[str]:
        """Yield the keys that do not hold; raises as `fits_request`.

        The circumstances are looked at only where the rest holds, and up to the first that fails.
        """
        if request.unix_time >= self.ends_at:
            yield "until"
        for key, test in self.subject_tests:
            if credential is None or not test(credential):
                yield key
        if self.fits_subject(credential, request.unix_time):
            first = next((key for key, fits in self.request_tests if not fits(request)), None)
            if first is not None:
                yield first

    def fits_request(self, request: GateRequest) -> bool:
        """Return True if the part that depends on the request holds.

        Raises:
            AmbiguousPath, PathTooLong: the path decides, and can't be judged.
            ClientAddressUnreadable: the address decides a refusal, and is unknown.
        """
        return all(test(request) for _, test in self.request_tests)

    def holds(self, credential: Credential | None, request: GateRequest) -> bool:
        """Return True if the condition holds; raises as `fits_request`."""
        return self.fits_subject(credential, request.unix_time) and self.fits_request(request)


def _end_of(until: datetime.date) -> float:
    """Return the end of a day, or the moment, in seconds since 1970; without time zone in UTC."""
    if not isinstance(until, datetime.datetime):
        midnight = datetime.datetime.combine(until, datetime.time(), datetime.UTC)
        return (midnight + datetime.timedelta(days=1)).timestamp()
    if until.tzinfo is None:
        until = until.replace(tzinfo=datetime.UTC)
    return until.timestamp()


def _subject_tests(model: Condition, *, deny: bool) -> tuple[tuple[str, SubjectTest], ...]:
    tests: list[tuple[str, SubjectTest]] = [
        (key, _for_person(test, deny=deny)) for key, test in _person_tests(model)
    ]
    if model.machine is not None:
        tests.append(("machine", _named(model.machine, SubjectKind.MACHINE)))
    if model.app is not None:
        tests.append(("app", _named(model.app, SubjectKind.APP)))
    if model.pin is not None:
        tests.append(("pin", lambda credential: credential.subject.kind is SubjectKind.PIN))
    if model.method is not None:
        tests.append(("method", _signed_in_by(model.method)))
    return tuple(tests)


PersonTest = Callable[[Subject], bool]


def _person_tests(model: Condition) -> list[tuple[str, PersonTest]]:
    tests: list[tuple[str, PersonTest]] = []
    if model.user is not None:
        users = frozenset(model.user)
        tests.append(("user", lambda person: person.name in users))
    if model.group is not None:
        groups = frozenset(model.group)
        tests.append(("group", lambda person: not groups.isdisjoint(person.groups)))
    if model.email is not None:
        emails = frozenset(model.email)
        tests.append(("email", lambda person: any(_plain(e) in emails for e in person.emails)))
    if model.email_domain is not None:
        domains = frozenset(model.email_domain)
        tests.append(
            ("email_domain", lambda person: any(_domain(e) in domains for e in person.emails))
        )
    if model.provider is not None:
        providers = frozenset(model.provider)
        tests.append(("provider", lambda person: person.provider in providers))
    if model.claim is not None:
        claims = {name: frozenset(values) for name, values in model.claim.items()}
        tests.append(("claim", lambda person: _has_claims(claims, person.claims)))
    if model.signed_in is not None:
        tests.append(("signed_in", lambda _person: True))
    return tests


def _for_person(test: PersonTest, *, deny: bool) -> SubjectTest:
    def fits(credential: Credential) -> bool:
        subject = credential.subject
        person = person_of(subject)
        if person is None and deny and subject.kind is SubjectKind.LINK:
            person = subject.owner
        return person is not None and test(person)

    return fits


def _plain(email: str) -> str:
    """Return an address in lower case. Letters outside ASCII stay: `K` (Kelvin) is no `k`."""
    return email.lower() if email.isascii() else email


def _domain(email: str) -> str:
    """Return the domain of an address; empty if the address has several `@`."""
    return _plain(email).partition("@")[2] if email.count("@") == 1 else ""


def _has_claims(wanted: Mapping[str, frozenset[str]], claims: Mapping[str, Any]) -> bool:
    return all(not values.isdisjoint(_texts(claims.get(name))) for name, values in wanted.items())


def _texts(value: Any) -> list[str]:
    """Return the values of a claim as text, with `true` and `false` as JSON writes them."""
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, (str, int)):
        return [str(value)]
    if isinstance(value, (list, tuple)):
        return [item for item in value if isinstance(item, str)]
    return []


def _named(patterns: list[str], kind: SubjectKind) -> SubjectTest:
    """Return a test of a token's kind and name; `*` stands for any characters."""
    exact = frozenset(pattern for pattern in patterns if "*" not in pattern)
    wild = "|".join(_regular(pattern) for pattern in patterns if "*" in pattern)
    # Nothing fits `(?!)`.
    fits = re.compile(wild or "(?!)", re.DOTALL).fullmatch

    def named(credential: Credential) -> bool:
        name = credential.subject.name
        return credential.subject.kind is kind and (name in exact or fits(name) is not None)

    return named


def _regular(pattern: str) -> str:
    """Return a pattern as regular expression.

    Each piece between two `*` is taken at its first place, which leaves the most room for the
    others, and for good (an atomic group): so a match takes one search for each piece.
    """
    first, *others = (re.escape(piece) for piece in pattern.split("*"))
    between = "".join(f"(?>.*?{piece})" for piece in others[:-1])
    return f"{first}{between}.*{others[-1]}"


def _signed_in_by(method: str) -> SubjectTest:
    def fits(credential: Credential) -> bool:
        sign_in = credential.sign_in or credential
        return credential.subject.kind is SubjectKind.USER and sign_in.method == method

    return fits


def _request_tests(
    model: Condition, country_of: CountryOf, *, deny: bool
) -> tuple[tuple[str, RequestTest], ...]:
    """Return the tests of the circumstances; that of the path, which may fail, is the last."""
    tests: list[tuple[str, RequestTest]] = []
    if model.ip is not None:
        tests.append(("ip", _from_network(model.ip, deny=deny)))
    if model.country is not None:
        tests.append(("country", _from_country(model.country, country_of, deny=deny)))
    if model.path is not None:
        matches = (path_match(model.path),)
        tests.append(("path", lambda request: path_holds(matches, request)))
    return tuple(tests)


def _from_network(networks: list[str], *, deny: bool) -> RequestTest:
    recent = lru_cache(maxsize=4096)(NetworkSet(networks).has)

    def fits(request: GateRequest) -> bool:
        found = recent(request.client)
        if found is None and deny:
            raise ClientAddressUnreadable(
                "the proxy in front sent an unreadable client address, which this host needs"
            )
        return found is True

    return fits


def _from_country(countries: list[str], country_of: CountryOf, *, deny: bool) -> RequestTest:
    known = frozenset(countries) - {UNKNOWN_COUNTRY}
    unknown = deny and UNKNOWN_COUNTRY in countries

    def fits(request: GateRequest) -> bool:
        country = country_of(request.client.decode("ascii", "replace")) if request.client else None
        return unknown if country is None else country in known

    return fits
