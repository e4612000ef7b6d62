"""Tests of zerotrust.middleware.basic_auth."""

import base64
from typing import Any

import argon2
import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.middleware.asking import SECRET, forwarded, policy, request, run
from zerotrust.middleware.basic_auth import BasicAuthMiddleware
from zerotrust.middleware.interface import Answer, NeedsVerification, Request
from zerotrust.middleware.policy import Policy
from zerotrust.model.authentication import BasicAuthConfig

ANN = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
BOB = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("p:ä")
USERS = {"ann": ANN, "bob": BOB, "old": ANN.replace("$2b$", "$2y$")}


def said(credentials: str | bytes, scheme: str = "Basic") -> str:
    raw = credentials.encode() if isinstance(credentials, str) else credentials
    return f"Authorization: {scheme} {base64.b64encode(raw).decode()}"


def guarded(**config: Any) -> Policy:
    return policy(("basic_auth", {"users": USERS, **config}))


def waiting(found: Policy, asked: Request, now: float = 0.0) -> NeedsVerification:
    said = found.table.default.run(asked, now)
    assert isinstance(said, NeedsVerification)
    return said


@pytest.mark.parametrize("credentials", ["ann:right", "bob:p:ä", "old:right"])
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_who_knows_the_password_passes(credentials: str, scheme: str) -> None:
    assert run(guarded(), request(said(credentials, scheme))) is None


WRONG = ["ann:wrong", "ann:", "ann:right ", "bob:right", "nobody:right", ":right", "ANN:right", "ann:" + "x" * 200]
WRONG += ["bob:p:ä\0", "ann:right\0", "ann:\0"]


@pytest.mark.parametrize("credentials", WRONG)
def test_who_does_not_is_refused(credentials: str) -> None:
    answer = run(guarded(realm="home"), request(said(credentials)))
    assert answer is not None
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert answer.lines == b'WWW-Authenticate: Basic realm="home", charset="UTF-8"\r\n'


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Authorization: Basic"],
        ["Authorization: Basic %%%"],
        ["Authorization: Bearer YTpi"],
        ["Authorization: Basic YW5u"],
        ["Authorization: ann:right"],
        ["Authorization: Basic " + "A" * 20_000],
        [said("ann:right"), said("ann:right")],
        ["Authorization: Basic YW5uOnJpZ2h0\xff"],
    ],
)
def test_what_is_no_credentials_costs_nothing(lines: list[str]) -> None:
    answer = guarded().table.default.run(request(*lines), 0)
    assert isinstance(answer, Answer)
    assert answer.status == 401


def test_what_was_right_is_remembered_for_a_while() -> None:
    found = guarded(remember="1m")
    assert run(found, request(said("ann:right")), now=0) is None
    chain = found.table.default
    assert chain.run(request(said("ann:right")), 59.9) is None
    assert isinstance(chain.run(request(said("ann:wrong")), 59.9), NeedsVerification)
    assert chain.run(request(said("ann:right")), 119.8) is None, "remembered since its last use"
    assert isinstance(chain.run(request(said("ann:right")), 179.8), NeedsVerification)


def test_what_was_wrong_is_not_remembered_as_right() -> None:
    found = guarded()
    for _ in range(2):
        assert run(found, request(said("ann:wrong"))) is not None


def test_requests_with_the_same_credentials_wait_for_one_verification() -> None:
    found = guarded()
    first, second = request(said("ann:right")), request(said("ann:right"))
    one, two = waiting(found, first), waiting(found, second)
    assert (one.verifier, one.verification.digest) == (two.verifier, two.verification.digest)
    chain = found.table.default
    assert chain.resume(one, True, first, 0) is None
    assert chain.resume(two, True, second, 0) is None
    assert chain.run(request(said("ann:right")), 1) is None


def test_guesses_that_wait_keep_no_place_of_a_login() -> None:
    found = guarded()
    for number in range(100):
        waiting(found, request(said(f"ann:{number}")))
    assert run(found, request(said("ann:right"))) is None


def test_a_verification_that_was_dropped() -> None:
    """Nothing is known of the password: it is asked again when the client comes again."""
    found, asked = guarded(), request(said("ann:right"))
    busy = found.table.default.resume(waiting(found, asked), None, asked, 0)
    assert isinstance(busy, Answer)
    assert (busy.status, busy.code, busy.lines) == (503, "auth_busy", b"Retry-After: 1\r\n")
    assert run(found, request(said("ann:right"))) is None


def test_nobody_costs_as_much_as_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []

    def check(password: bytes, hashed: bytes) -> bool:
        checked.append(hashed)
        return True

    monkeypatch.setattr("bcrypt.checkpw", check)
    found = policy(("basic_auth", {"users": {"ann": ANN}}))
    answer = run(found, request(said("nobody:right")))
    assert answer is not None and answer.status == 401
    assert checked == [ANN.encode()]


def test_each_name_costs_the_same_whatever_the_password() -> None:
    """Also one that no user has: else its passwords would differ in time where the hashes of the users do."""
    handler = BasicAuthMiddleware(BasicAuthConfig.model_validate({"users": USERS}), secret=SECRET)
    stand_ins = set()
    for name in ("ann", "bob", *(f"nobody-{number}" for number in range(20))):
        checked = set()
        for number in range(20):
            pending = handler.request(request(said(f"{name}:{number}")), 0)
            assert isinstance(pending, NeedsVerification)
            checked.add(pending.verification.run.args[0])  # type: ignore[attr-defined]
        assert len(checked) == 1, name
        stand_ins |= checked
    assert len(stand_ins) == len(USERS), "names without a user are spread over the hashes"


def test_the_backend_does_not_see_the_password() -> None:
    asked = request(said("ann:right"), "A: b")
    assert run(guarded(), asked) is None
    assert forwarded(asked) == b"A: b\r\n"
    asked = request(said("ann:right"))
    assert run(guarded(forward_credentials=True), asked) is None
    assert forwarded(asked).startswith(b"Authorization: Basic ")


def test_the_password_is_not_kept() -> None:
    found = guarded()
    assert run(found, request(said("ann:right"))) is None
    ((_, handler),) = found.made
    assert isinstance(handler, BasicAuthMiddleware)
    assert all(b"right" not in key for key in handler._remembered._entries)


def test_users_whose_file_was_not_read() -> None:
    with pytest.raises(ValueError, match="not read"):
        BasicAuthMiddleware(BasicAuthConfig(users_file="x"), secret=SECRET)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_only_the_right_credentials_pass(raw: bytes) -> None:
    answer = run(policy(("basic_auth", {"users": {"ann": ANN}})), request(said(raw)))
    assert (answer is None) is (raw == b"ann:right")
