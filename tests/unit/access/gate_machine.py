"""A state machine over people, credentials, rules and time.

Its one invariant: no request passes that the rules, read naively, would refuse.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from tests.unit.access.credentials import NOW
from tests.unit.access.naive_reading import Known, NaiveReading, Person, Visit
from zerotrust.access.gate import VerdictKind
from zerotrust.access.gate_request import GateRequest
from zerotrust.access.gate_table import GateTable
from zerotrust.access.subject import Credential, CredentialKind, Subject, SubjectKind
from zerotrust.errors import ForwardError
from zerotrust.model.access import Access

HOSTS = ("a.lab.example.com", "b.lab.example.com", "app.example.com", "x.example.org")
CLIENTS = ("10.1.2.3", "192.0.2.7")
PLAIN = (
    "/",
    "/admin",
    "/admin/x",
    "/administrator",
    "/share/1",
    "/share/1/b",
    "/share/10",
    "/o?p=/admin/x",
)
ODD = ("//admin/x", "/admin%2fx", "/%61dmin/x", "/share/1;x/b", "/o;/admin", "/a\\..\\admin", "/share/1%2f..%2f10", "/share//1", "/%2561dmin")  # fmt: skip
PATTERNS = st.sampled_from(["/admin/*", "/share/*", "/o", "/*"])
AGES = st.sampled_from([60.0, 3600.0])

ABOUT_PEOPLE = [
    ("user", "anna"),
    ("user", "ben"),
    ("group", "family"),
    ("group", "kids"),
    ("email_domain", "example.com"),
    ("signed_in", True),
]
PEOPLE = st.lists(st.sampled_from([*ABOUT_PEOPLE, ("method", "passkey")]), min_size=1, max_size=2)
OWNERS = st.lists(st.sampled_from(ABOUT_PEOPLE), min_size=1, max_size=1)
SUBJECTS = st.one_of(
    PEOPLE.map(dict),
    OWNERS.map(lambda owner: {"app": "phone*", **dict(owner)}),
    st.sampled_from([{"machine": "ci-*"}, {"pin": True}, {"anyone": True}, {"app": "*"}]),
)
UNTIL = st.sampled_from(["2027-01-15", "2027-01-16"])
CIRCUMSTANCES = st.fixed_dictionaries(
    {},
    optional={
        "ip": st.just("10.0.0.0/8"),
        "until": UNTIL,
        "path": PATTERNS,
    },
)
CONDITIONS = st.builds(
    lambda subject, other: {**subject, **other},
    SUBJECTS,
    st.just({}) | UNTIL.map(lambda day: {"until": day}) | CIRCUMSTANCES,
)
ALLOWS = st.one_of(
    st.sampled_from(["anyone", "nobody", "signed_in", "signed_in"]),
    st.lists(CONDITIONS, min_size=1, max_size=3),
)
PATHS = st.builds(
    lambda match, allow, fresh: {
        "match": match,
        "allow": allow,
        **({"fresh": fresh} if fresh and allow not in ("anyone", "nobody") else {}),
    },
    st.lists(PATTERNS, min_size=1, max_size=2),
    ALLOWS,
    st.none() | AGES,
)
RULES = st.builds(
    lambda allow, deny, require, paths, links, age: {
        "allow": allow,
        "deny": deny,
        "require": require,
        "paths": paths,
        "links": links,
        **({"max_age": age} if age and allow not in ("anyone", "nobody") else {}),
    },
    ALLOWS,
    st.just([]) | st.lists(CONDITIONS, max_size=2),
    st.just([]) | st.lists(CONDITIONS, max_size=1),
    st.just([]) | st.lists(PATHS, max_size=2),
    st.booleans(),
    st.none() | AGES,
)
SHORT_RULES = st.one_of(
    st.builds(lambda age: {"allow": "signed_in", "max_age": age}, AGES),
    st.builds(
        lambda subject, day: {"allow": [{**subject, "until": day}], "links": True}, SUBJECTS, UNTIL
    ),
)
"""Rules whose verdicts are remembered for a time."""

LINK_RULES = st.builds(
    lambda deny, require: {"allow": "signed_in", "deny": deny, "require": require, "links": True},
    st.lists(CONDITIONS | OWNERS.map(dict), min_size=1, max_size=2),
    st.just([]) | st.lists(CONDITIONS, max_size=1),
)
"""Rules by which a link opens what its creator may be denied."""

ACCESS = st.builds(
    lambda rules, default: {
        "auth_host": "auth.example.com",
        "default": default,
        "rules": [
            {"hosts": [host], **rule}
            for host, rule in zip(
                ("*.lab.example.com", "a.lab.example.com", "app.example.com"), rules, strict=False
            )
        ],
    },
    st.lists(RULES | SHORT_RULES | LINK_RULES, min_size=1, max_size=3),
    st.sampled_from(["nobody", "signed_in", "public"]),
)

Pair = tuple[Known, Credential]


class GateMachine(RuleBasedStateMachine):
    """Credentials exist twice: as the gate knows them, and as the test has noted them."""

    sign_ins = Bundle("sign_ins")
    all = Bundle("all")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.people = {
            "anna": Person("anna", {"family"}, "anna@example.com"),
            "ben": Person("ben", {"family", "kids"}, "ben@example.org@example.com"),
        }
        self.pairs: list[Pair] = []
        self.reading = NaiveReading({"rules": []})

    @initialize(target=sign_ins, access=ACCESS)
    def begin(self, access: dict[str, Any]) -> Pair:
        self.use(access)
        first = self.sign_in("anna", "passkey", 86400.0, 0.0)
        self.hand_over(first)
        for host in HOSTS:
            self.use_link(host, "", (), "anna")
        return first

    def use(self, access: dict[str, Any]) -> None:
        self.table = GateTable(Access.model_validate(access))
        self.reading = NaiveReading(access)

    def subject(self, name: str) -> Subject:
        person = self.people[name]
        return Subject(
            kind=SubjectKind.USER,
            id=f"u_{name}",
            name=name,
            groups=frozenset(person.groups),
            emails=frozenset({person.email}),
        )

    def keep(self, known: Known, kind: CredentialKind, subject: Subject, **about: Any) -> Pair:
        credential = Credential(
            kind,
            "1",
            digest=bytes(32),
            subject=subject,
            ends_at=known.ends_at,
            seen_at=known.seen_at,
            idle=known.idle,
            proven_at=known.proven_at,
            host=known.host,
            hosts=known.hosts,
            path=known.path,
            methods=known.methods,
            **about,
        )
        pair = (known, credential)
        self.pairs.append(pair)
        return pair

    @rule(
        target=sign_ins,
        name=st.sampled_from(["anna", "ben"]),
        method=st.sampled_from(["passkey", "oidc"]),
        lifetime=st.sampled_from([600.0, 86400.0]),
        idle=st.sampled_from([0.0, 300.0]),
    )
    def signs_in(self, name: str, method: str, lifetime: float, idle: float) -> Pair:
        return self.sign_in(name, method, lifetime, idle)

    def sign_in(self, name: str, method: str, lifetime: float, idle: float) -> Pair:
        known = Known(
            "user",
            person=self.people[name],
            method=method,
            ends_at=self.now + lifetime,
            idle=idle,
            seen_at=self.now,
            proven_at=self.now,
        )
        return self.keep(known, CredentialKind.SIGN_IN, self.subject(name), method=method)

    @precondition(lambda self: len(self.pairs) < 24)
    @rule(target=all, made_from=sign_ins)
    def hands_over(self, made_from: Pair) -> MultipleResults[Pair]:
        return multiple(*self.hand_over(made_from))

    def hand_over(self, made_from: Pair) -> list[Pair]:
        """Make a pass for each host name."""
        known, sign_in = made_from
        assert known.person is not None
        subject = self.subject(known.person.name)
        return [
            self.keep(
                Known("user", person=known.person, host=host, sign_in=known),
                CredentialKind.PASS,
                subject,
                sign_in=sign_in,
                method=sign_in.method,
            )
            for host in HOSTS
        ]

    @rule(
        target=all,
        kind=st.sampled_from(["machine", "app"]),
        name=st.sampled_from(["ci-1", "phone 1", "other"]),
        owner=st.sampled_from(["anna", "ben"]),
        hosts=st.sampled_from([(), HOSTS[:1], ("*.lab.example.com",), HOSTS[2:]]),
    )
    def create_token(self, kind: str, name: str, owner: str, hosts: tuple[str, ...]) -> Pair:
        of_app = kind == "app"
        known = Known(kind, name, self.people[owner] if of_app else None, hosts=hosts)
        subject = Subject(
            kind=SubjectKind(kind),
            id=f"{kind}:{name}",
            name=name,
            owner=self.subject(owner) if of_app else None,
        )
        return self.keep(known, CredentialKind.TOKEN, subject)

    @rule(
        target=all,
        host=st.sampled_from(HOSTS),
        path=st.sampled_from(["", "/", "/share/1", "/admin"]),
        methods=st.sampled_from([(), ("GET", "HEAD")]),
        creator=st.sampled_from(["anna", "ben", None]),
    )
    def uses_link(
        self, host: str, path: str, methods: tuple[str, ...], creator: str | None
    ) -> Pair:
        return self.use_link(host, path, methods, creator)

    def use_link(self, host: str, path: str, methods: tuple[str, ...], creator: str | None) -> Pair:
        known = Known(
            "link",
            host=host,
            path=path,
            methods=methods,
            ends_at=self.now + 3600,
            creator=self.people[creator] if creator else None,
        )
        owner = self.subject(creator) if creator else None
        subject = Subject(kind=SubjectKind.LINK, id="link:1", owner=owner)
        return self.keep(known, CredentialKind.PASS, subject)

    @rule(target=all, host=st.sampled_from(HOSTS))
    def enter_pin(self, host: str) -> Pair:
        subject = Subject(kind=SubjectKind.PIN, id=f"pin:{host}")
        return self.keep(Known("pin", host=host), CredentialKind.PASS, subject)

    @rule(made_from=consumes(sign_ins))
    def sign_out(self, made_from: Pair) -> None:
        made_from[0].ended = True
        made_from[1].ended = "signed out"

    @rule(pair=consumes(all))
    def revoke(self, pair: Pair) -> None:
        pair[0].ended = True
        pair[1].ended = "access withdrawn"

    @rule(pair=sign_ins)
    def prove_again(self, pair: Pair) -> None:
        pair[0].proven_at = pair[1].proven_at = self.now

    @rule(pair=sign_ins | all)
    def be_active(self, pair: Pair) -> None:
        pair[0].seen_at = pair[1].seen_at = self.now

    @rule(name=st.sampled_from(["anna", "ben"]), group=st.sampled_from(["family", "kids"]))
    def change_groups(self, name: str, group: str) -> None:
        self.people[name].groups ^= {group}
        for _, credential in self.pairs:
            subject = credential.subject
            if subject.name == name:
                credential.subject = self.subject(name)
            elif subject.owner is not None and subject.owner.name == name:
                credential.subject = Subject(
                    kind=subject.kind, id=subject.id, name=subject.name, owner=self.subject(name)
                )
            else:
                continue
            credential.verdicts = None

    @rule(access=ACCESS)
    def change_rules(self, access: dict[str, Any]) -> None:
        self.use(access)

    @rule(seconds=st.sampled_from([1.0, 60.0, 299.0, 3600.0, 60_000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.coming(self.reading.ends()))
    @rule()
    def wait_for_the_end_of_a_condition(self) -> None:
        self.now = min(self.coming(self.reading.ends()))

    @precondition(lambda self: self.coming(self.ends()))
    @rule()
    def wait_for_the_end_of_a_credential(self) -> None:
        """Or of a proof of identity that is new enough for a rule."""
        self.now = min(self.coming(self.ends()))

    def coming(self, moments: Iterable[float]) -> list[float]:
        return [moment for moment in moments if self.now < moment < float("inf")]

    def ends(self) -> Iterator[float]:
        for known, _ in self.pairs:
            yield known.ends_at
            yield from (known.last_proof + age for age in (60.0, 3600.0))
            if known.idle:
                yield known.seen_at + known.idle

    @rule(
        path=st.sampled_from([*PLAIN, *ODD]),
        method=st.sampled_from(["GET", "HEAD", "POST"]),
        client=st.sampled_from(CLIENTS),
    )
    def visit(self, path: str, method: str, client: str) -> None:
        self.compare(path, method, client)

    def compare(self, target: str, method: str, client: str) -> None:
        for known, credential in (None, None), *self.pairs:
            for host in HOSTS:
                asked = Visit(host, target, method, client, self.now)
                passes = self.passes(credential, asked)
                expected = self.reading.lets_in(known, asked)
                assert expected or not passes, (known, asked)
                if target in PLAIN:
                    assert passes == expected, (known, asked)

    @invariant()
    def nothing_passes_that_the_rules_refuse(self) -> None:
        if hasattr(self, "table"):
            self.compare("/share/1", "GET", CLIENTS[0])

    def passes(self, credential: Credential | None, asked: Visit) -> bool:
        gate = self.table.find(asked.host)
        if gate is None:
            return True
        request = GateRequest(
            asked.method.encode(),
            asked.target.encode(),
            client=asked.client.encode(),
            unix_time=asked.now,
        )
        try:
            return gate.judge(credential, request).kind is VerdictKind.ALLOW
        except ForwardError:
            return False
