from typing import Any

import pytest

from tests.unit.access.credentials import NOW, link, machine, pass_of, token_of, user
from tests.unit.middleware.policy_runner import SECRET, policy, request, run
from zerotrust.access.subject import Credential
from zerotrust.middleware.access_require import (
    ACCESS_DENIED,
    LOGIN_REQUIRED,
    AccessRequireMiddleware,
)
from zerotrust.middleware.interface import Answer
from zerotrust.middleware.policy import compile_policy
from zerotrust.model.condition import Condition
from zerotrust.model.service import ServiceSecurity
from zerotrust.model.service_access import ServiceAccess


def answered(
    who: Credential | None, *require: dict[str, Any], target: str = "/", client: str = "192.0.2.7"
) -> Answer | None:
    handler = AccessRequireMiddleware([Condition.model_validate(item) for item in require])
    asked = request(target=target, client=client)
    asked.who, asked.unix_time = who, NOW
    return handler.request(asked, 0.0)


def test_all_conditions_must_hold() -> None:
    both = ({"signed_in": True}, {"group": "family"})
    assert answered(pass_of(user()), *both) is None
    assert answered(pass_of(user(groups=frozenset())), *both) is ACCESS_DENIED
    assert answered(None, *both) is LOGIN_REQUIRED
    assert answered(pass_of(link()), *both) is LOGIN_REQUIRED
    assert answered(token_of(machine("ci")), *both) is ACCESS_DENIED
    assert answered(token_of(machine("ci")), {"machine": "ci"}) is None


def test_a_stranger_from_a_wrong_network_is_not_asked_to_sign_in() -> None:
    assert answered(None, {"ip": "10.0.0.0/8"}) is ACCESS_DENIED
    assert answered(None, {"ip": "10.0.0.0/8"}, client="10.0.0.1") is None


def test_a_path_that_cannot_be_judged_is_an_error() -> None:
    answer = answered(pass_of(user()), {"group": "family", "path": "/a/*"}, target="//a/x")
    assert answer is not None
    assert (answer.status, answer.code) == (400, "ambiguous_path")


@pytest.mark.parametrize(("answer", "status"), [(LOGIN_REQUIRED, 401), (ACCESS_DENIED, 403)])
def test_answers(answer: Answer, status: int) -> None:
    assert answer.status == status
    assert answer.message


def test_it_runs_after_cors_and_before_authentication() -> None:
    security = ServiceSecurity.model_validate({"cors": {"origins": ["https://page.example"]}})
    access = ServiceAccess.model_validate({"require": [{"signed_in": True}]})
    found = compile_policy([], secret=SECRET, security=security, access=access)
    asked = request("Origin: https://page.example")
    answer = run(found, asked)
    assert answer is not None
    assert (answer.status, answer.code) == (401, "login_required")
    assert b"Access-Control-Allow-Origin: https://page.example\r\n" in answer.lines
    preflight = request(
        "Origin: https://page.example", "Access-Control-Request-Method: GET", method="OPTIONS"
    )
    answer = run(found, preflight)
    assert answer is not None and answer.status == 204
    asked.who = pass_of(user())
    assert run(found, asked) is None


def test_it_is_a_handler_of_routes() -> None:
    found = policy(("access", {"require": [{"group": "family"}]}))
    asked = request()
    answer = run(found, asked)
    assert answer is not None and answer.code == "login_required"
    asked.who = pass_of(user())
    assert run(found, asked) is None


def test_access_without_conditions_adds_no_handler() -> None:
    found = compile_policy([], secret=SECRET, access=ServiceAccess())
    assert found.table.default.handlers == ()
