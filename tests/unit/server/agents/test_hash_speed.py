"""Tests of zerotrust.server.agents.hash_speed."""

import threading
import time
from typing import Any

import argon2
import bcrypt
import pytest

from tests.unit.middleware.policy_runner import SECRET
from zerotrust.errors import ConfigError
from zerotrust.model.password_hash import REFERENCE_SPEED, HashSpeed
from zerotrust.server.agents.hash_speed import check_hashes, measure_hash_speed
from zerotrust.server.agents.service_policy import CompiledPolicy, compile_service_policy

COSTLY = argon2.PasswordHasher(time_cost=2, memory_cost=1024, parallelism=1).hash("x")
CHEAP = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()


def guard(users: dict[str, str], *, place: str = "security") -> CompiledPolicy | None:
    handler = {"type": "basic_auth", "config": {"users": users}}
    policies: dict[str, dict[str, Any]] = {
        "security": {"security": {"auth": handler}},
        "everywhere": {"global_middleware": [handler]},
        "route": {"routes": [{"match": {"path": "/x"}, "handle": [handler]}, {}]},
    }
    return compile_service_policy(policies[place], secret=SECRET, before=None)


@pytest.mark.anyio
async def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes some time in another thread, and comes near what a hash takes."""
    threads = set()
    clock = time.thread_time

    def noted() -> float:
        threads.add(threading.get_ident())
        return clock()

    monkeypatch.setattr(time, "thread_time", noted)
    speed = await measure_hash_speed()
    assert threads and threading.get_ident() not in threads
    for found, reference in zip(speed, REFERENCE_SPEED, strict=True):
        assert reference / 100 < found < reference * 100


@pytest.mark.parametrize("place", ["security", "everywhere", "route"])
def test_a_hash_that_takes_too_long_here_is_refused_with_user_figure_and_fix(place: str) -> None:
    found = guard({"ann": CHEAP, "bob": COSTLY}, place=place)
    check_hashes(found, REFERENCE_SPEED)
    with pytest.raises(ConfigError) as caught:
        check_hashes(found, HashSpeed(argon2_block=0.001, bcrypt_round=0.001))
    assert str(caught.value).startswith(
        'basic_auth: user "bob": argon2id m=1024,t=2,p=1 takes 2048 ms on this server, at most 500'
        " ms is allowed; create a hash with caddy hash-password --algorithm argon2id"
    )


def test_policies_without_passwords() -> None:
    check_hashes(None, REFERENCE_SPEED)
    check_hashes(
        compile_service_policy({"max_request_body": "1KB"}, secret=SECRET, before=None),
        HashSpeed(9.0, 9.0),
    )
