"""Explanation of a verdict: each step of the gate, with the place in the rules that it is about."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from zerotrust.access.conditions import CompiledCondition, person_of
from zerotrust.access.gate import CompiledRule, Gate, PathGate, Verdict, VerdictKind
from zerotrust.access.gate_request import GateRequest
from zerotrust.access.gate_table import GateTable
from zerotrust.access.link_scope import in_scope
from zerotrust.access.rule_words import condition_words
from zerotrust.access.subject import Credential, Subject, SubjectKind
from zerotrust.errors import ForwardError
from zerotrust.model.base import CATCH_ALL


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a verdict.

    Attributes:
        place: place in the section `access`, such as `rules[2].deny[0]`.
        text: the condition or fact in words.
        held: True or False for conditions, None for facts.
        failed: keys of the condition that do not hold.
    """

    place: str
    text: str
    held: bool | None = None
    failed: tuple[str, ...] = ()

    def __str__(self) -> str:
        mark = {True: "yes  ", False: "no   ", None: "     "}[self.held]
        missing = f" ({', '.join(self.failed)} not fulfilled)" if self.failed else ""
        return f"{mark}{self.place}: {self.text}{missing}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict with its steps.

    Attributes:
        kind: the verdict; None where the request gets `error`.
        reason: place in the rules that decided.
        error: code of the error that the request gets, such as `ambiguous_path`.
    """

    kind: VerdictKind | None
    reason: str
    error: str = ""
    steps: list[Step] = field(default_factory=list)


def explain(
    table: GateTable, host: str, credential: Credential | None, request: GateRequest
) -> Explanation:
    """Return the verdict of a host's gate with all its steps.

    Args:
        host: a normalised host name.
        credential: a pass or token, which need not be in the index; None for a stranger.
    """
    gate = table.find(host)
    if gate is None:
        step = Step("default", f"no rule names {host}, and default is public", held=True)
        return Explanation(VerdictKind.ALLOW, "default", steps=[step])
    steps: list[Step] = []
    try:
        verdict = gate.judge(credential, request)
        steps += _Steps(table, gate, credential, request).of(verdict)
    except ForwardError as error:
        steps.append(Step(place_of(table, gate), str(error), held=False))
        return Explanation(None, place_of(table, gate), error.code, steps)
    return Explanation(verdict.kind, f"{place_of(table, gate)}.{verdict.reason}", steps=steps)


def place_of(table: GateTable, gate: Gate) -> str:
    """Return the place of a gate's rule in the section `access`."""
    if table.is_reserved(gate.host):
        return "auth_host" if gate.host == table.access.auth_host else "admin_host"
    if gate.host_pattern == CATCH_ALL:
        return "default"
    return next(
        f"rules[{index}]" for index, rule in enumerate(table.access.rules) if rule is gate.rule
    )


class _Steps:
    def __init__(
        self, table: GateTable, gate: Gate, credential: Credential | None, request: GateRequest
    ) -> None:
        self._gate = gate
        self._rule: CompiledRule = gate.compiled
        self._place = place_of(table, gate)
        self._shown = credential
        ended = credential is not None and credential.end_reason(request.unix_time)
        counts = credential is not None and not ended and gate.counts(credential)
        self._credential = credential if counts else None
        self._request = request

    def of(self, verdict: Verdict) -> Iterator[Step]:
        yield Step(self._place, f"{self._gate.host} is judged by {self._gate.host_pattern}")
        yield Step("credential", self._known())
        for step in map(self._step, self._rule.deny):
            yield step
            if step.held:
                return
        for step in map(self._step, self._rule.require):
            yield step
            if not step.held:
                return
        chosen = self._rule.whole
        for path in self._rule.paths:
            fits = path.applies(self._request)
            yield Step(f"{self._place}.{path.place}", "the path matches", held=fits)
            if fits:
                chosen = path
                break
        yield from self._allow(chosen, verdict)

    def _allow(self, chosen: PathGate, verdict: Verdict) -> Iterator[Step]:
        if not chosen.allow:
            yield Step(f"{self._place}.{chosen.place}", "no one may enter", held=False)
        in_file_order = sorted(chosen.allow, key=lambda item: (len(item.place), item.place))
        for step in map(self._step, in_file_order):
            yield step
            if step.held and verdict.kind is VerdictKind.ALLOW:
                return
        if self._is_link() and chosen is self._rule.whole:
            yield self._link_step()
        if verdict.kind is VerdictKind.PROVE_AGAIN:
            age = self._request.unix_time - self._proven_at()
            text = f"identity proven within {chosen.limit:g} s; it was {age:.0f} s ago"
            yield Step(f"{self._place}.max_age", text, held=False)

    def _step(self, item: CompiledCondition) -> Step:
        failed = tuple(item.failures(self._credential, self._request))
        return Step(f"{self._place}.{item.place}", condition_words(item.model), not failed, failed)

    def _is_link(self) -> bool:
        return self._credential is not None and self._credential.subject.kind is SubjectKind.LINK

    def _link_step(self) -> Step:
        credential = self._credential
        assert credential is not None
        allowed = self._rule.model.links
        held = allowed and in_scope(credential, self._request)
        text = f"the share link opens {credential.path or '/'}" if allowed else "no share links"
        return Step(f"{self._place}.links", text, held)

    def _proven_at(self) -> float:
        assert self._credential is not None  # without one there is no proof to be too old
        sign_in = self._credential.sign_in or self._credential
        return max(self._credential.proven_at, sign_in.proven_at)

    def _known(self) -> str:
        shown = self._shown
        if shown is None:
            return "none: not signed in"
        if self._credential is None:
            reason = shown.end_reason(self._request.unix_time) or "it is for another host name"
            return f"{_subject_words(shown.subject)}, which does not count: {reason}"
        return _subject_words(shown.subject)


def _subject_words(subject: Subject) -> str:
    person = person_of(subject)
    if person is None:
        return f"{subject.kind.value} {subject.name or subject.id}"
    groups = ", ".join(sorted(person.groups)) or "none"
    acting = f"app {subject.name} of " if subject is not person else ""
    return f"{acting}user {person.name}, groups: {groups}"
