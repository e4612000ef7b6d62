"""Tests of zerotrust.middleware.basic_auth."""

import base64
from typing import Any

import argon2
import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.unit.middleware.policy_runner import SECRET, forwarded, policy, request, run
from zerotrust.middleware.basic_auth import BasicAuthMiddleware
from zerotrust.middleware.interface import Answer, NeedsVerification, Request
from zerotrust.middleware.policy import Policy
from zerotrust.model.authentication import BasicAuthConfig

ANN = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
BOB = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("p:ä")
USERS = {"ann": ANN, "bob": BOB, "old": ANN.replace("$2b$", "$2y$")}


def authorization(credentials: str | bytes, scheme: str = "Basic") -> str:
    raw = credentials.encode() if isinstance(credentials, str) else credentials
    return f"Authorization: {scheme} {base64.b64encode(raw).decode()}"


def guarded(**config: Any) -> Policy:
    return policy(("basic_auth", {"users": USERS, **config}))


def waiting(found: Policy, asked: Request, now: float = 0.0) -> NeedsVerification:
    result = found.table.default.run(asked, now)
    assert isinstance(result, NeedsVerification)
    return result


@pytest.mark.parametrize("credentials", ["ann:right", "bob:p:ä", "old:right"])
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_a_valid_password_passes(credentials: str, scheme: str) -> None:
    assert run(guarded(), request(authorization(credentials, scheme))) is None


WRONG = [
    "ann:wrong",
    "ann:",
    "ann:right ",
    "bob:right",
    "nobody:right",
    ":right",
    "ANN:right",
    "ann:" + "x" * 200,
]
WRONG += ["bob:p:ä\0", "ann:right\0", "ann:\0"]


@pytest.mark.parametrize("credentials", WRONG)
def test_an_invalid_password_is_refused(credentials: str) -> None:
    answer = run(guarded(realm="home"), request(authorization(credentials)))
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
        [authorization("ann:right"), authorization("ann:right")],
        ["Authorization: Basic YW5uOnJpZ2h0\xff"],
    ],
)
def test_malformed_credentials_cost_no_verification(lines: list[str]) -> None:
    answer = guarded().table.default.run(request(*lines), 0)
    assert isinstance(answer, Answer)
    assert answer.status == 401


def test_valid_credentials_are_remembered_for_a_while() -> None:
    found = guarded(remember="1m")
    assert run(found, request(authorization("ann:right")), now=0) is None
    chain = found.table.default
    assert chain.run(request(authorization("ann:right")), 59.9) is None
    assert isinstance(chain.run(request(authorization("ann:wrong")), 59.9), NeedsVerification)
    assert chain.run(request(authorization("ann:right")), 119.8) is None, (
        "remembered since its last use"
    )
    assert isinstance(chain.run(request(authorization("ann:right")), 179.8), NeedsVerification)


def test_invalid_credentials_are_not_remembered() -> None:
    found = guarded()
    for _ in range(2):
        assert run(found, request(authorization("ann:wrong"))) is not None


def test_requests_with_the_same_credentials_wait_for_one_verification() -> None:
    found = guarded()
    first, second = request(authorization("ann:right")), request(authorization("ann:right"))
    one, two = waiting(found, first), waiting(found, second)
    assert (one.verifier, one.verification.digest) == (two.verifier, two.verification.digest)
    chain = found.table.default
    assert chain.resume(one, True, first, 0) is None
    assert chain.resume(two, True, second, 0) is None
    assert chain.run(request(authorization("ann:right")), 1) is None


def test_waiting_guesses_do_not_block_a_login() -> None:
    found = guarded()
    for number in range(100):
        waiting(found, request(authorization(f"ann:{number}")))
    assert run(found, request(authorization("ann:right"))) is None


def test_a_verification_that_was_dropped() -> None:
    """The credentials are not remembered: the next request verifies them again."""
    found, asked = guarded(), request(authorization("ann:right"))
    busy = found.table.default.resume(waiting(found, asked), None, asked, 0)
    assert isinstance(busy, Answer)
    assert (busy.status, busy.code, busy.lines) == (503, "auth_busy", b"Retry-After: 1\r\n")
    assert run(found, request(authorization("ann:right"))) is None


def test_an_unknown_user_costs_as_much_as_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []

    def check(password: bytes, hashed: bytes) -> bool:
        checked.append(hashed)
        return True

    monkeypatch.setattr("bcrypt.checkpw", check)
    found = policy(("basic_auth", {"users": {"ann": ANN}}))
    answer = run(found, request(authorization("nobody:right")))
    assert answer is not None and answer.status == 401
    assert checked == [ANN.encode()]


def test_each_name_costs_the_same_whatever_the_password() -> None:
    """This includes unknown names: their response times must not depend on the password."""
    handler = BasicAuthMiddleware(BasicAuthConfig.model_validate({"users": USERS}), secret=SECRET)
    stand_ins = set()
    for name in ("ann", "bob", *(f"nobody-{number}" for number in range(20))):
        checked = set()
        for number in range(20):
            pending = handler.request(request(authorization(f"{name}:{number}")), 0)
            assert isinstance(pending, NeedsVerification)
            checked.add(pending.verification.run.args[0])  # type: ignore[attr-defined]
        assert len(checked) == 1, name
        stand_ins |= checked
    assert len(stand_ins) == len(USERS), "names without a user are spread over the hashes"


def test_the_backend_does_not_see_the_password() -> None:
    asked = request(authorization("ann:right"), "A: b")
    assert run(guarded(), asked) is None
    assert forwarded(asked) == b"A: b\r\n"
    asked = request(authorization("ann:right"))
    assert run(guarded(forward_credentials=True), asked) is None
    assert forwarded(asked).startswith(b"Authorization: Basic ")


def test_the_password_is_not_kept() -> None:
    found = guarded()
    assert run(found, request(authorization("ann:right"))) is None
    ((_, handler),) = found.made
    assert isinstance(handler, BasicAuthMiddleware)
    assert all(b"right" not in key for key in handler.remembered.entries)


def test_users_whose_file_was_not_read() -> None:
    with pytest.raises(ValueError, match="not read"):
        BasicAuthMiddleware(BasicAuthConfig(users_file="x"), secret=SECRET)


@settings(max_examples=examples(50))
@given(st.binary(max_size=60))
def test_only_the_right_credentials_pass(raw: bytes) -> None:
    answer = run(policy(("basic_auth", {"users": {"ann": ANN}})), request(authorization(raw)))
    assert (answer is None) is (raw == b"ann:right")
