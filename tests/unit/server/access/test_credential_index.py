"""Tests of zerotrust.server.access.credential_index."""

import dataclasses

from zerotrust.access.subject import SIGNED_OUT, Credential, CredentialKind, Subject, SubjectKind
from zerotrust.server.access.credential_index import CredentialIndex

ANNA = Subject(kind=SubjectKind.USER, id="u_anna", name="anna")


def credential(kind: CredentialKind, number: int, sign_in: Credential | None = None) -> Credential:
    return Credential(
        kind,
        str(number),
        digest=f"{kind.value}{number}".encode(),
        subject=ANNA,
        ends_at=1e12,
        sign_in=sign_in,
    )


def test_passes_end_with_their_sign_in_and_stay_known_until_the_sweep() -> None:
    index = CredentialIndex()
    sign_in = credential(CredentialKind.SIGN_IN, 1)
    index.add(sign_in)
    passes = [credential(CredentialKind.PASS, number, sign_in) for number in (1, 2)]
    for made in passes:
        index.add(made)
    assert index.get(CredentialKind.SIGN_IN, "1") is sign_in
    assert index.get(CredentialKind.PASS, "1") is passes[0]
    assert index.of_user("u_anna") == [sign_in]
    assert index.end(passes[0], "session ended") == 1
    assert index.passes_of(sign_in) == [passes[1]]
    assert index.end(sign_in, SIGNED_OUT) == 2
    assert index.end(sign_in, "session ended") == 0
    assert (passes[0].ended, passes[1].ended) == ("session ended", SIGNED_OUT)
    assert index.find(sign_in.digest) is sign_in
    assert index.get(CredentialKind.PASS, "2") is None
    assert index.of_user("u_anna") == []
    index.sweep()
    assert len(index) == 0
    assert list(index.all()) == []


def test_a_sweep_keeps_what_came_back_under_the_same_digest() -> None:
    index = CredentialIndex()
    first, second = (credential(CredentialKind.SIGN_IN, 1) for _ in range(2))
    index.add(first)
    index.end(first, SIGNED_OUT)
    index.add(second)
    index.sweep()
    assert index.find(second.digest) is second


def test_a_new_subject_reaches_the_passes() -> None:
    index = CredentialIndex()
    sign_in = credential(CredentialKind.SIGN_IN, 1)
    made = credential(CredentialKind.PASS, 1, sign_in)
    index.add(sign_in)
    index.add(made)
    made.verdicts = {1: 1}
    assert not index.replace_subject(sign_in, dataclasses.replace(ANNA))
    assert made.verdicts == {1: 1}
    changed = dataclasses.replace(ANNA, groups=frozenset({"family"}))
    assert index.replace_subject(sign_in, changed)
    assert sign_in.subject is made.subject is changed
    assert made.verdicts is None
