"""Tests of zerotrust.model.password_hash."""

import argon2
import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.model.password_hash import (
    MAX_ARGON2_ITERATIONS,
    MAX_ARGON2_LANES,
    MAX_ARGON2_MEMORY,
    REFERENCE_SPEED,
    HashSpeed,
    hash_cost,
)


def argon2_hash(
    memory: int = 65536, time: int = 3, lanes: int = 4, *, kind: str = "argon2id"
) -> str:
    return f"${kind}$v=19$m={memory},t={time},p={lanes}$c29tZXNhbHRzb21l$" + "a" * 43


def bcrypt_hash(cost: int) -> str:
    return f"$2b${cost:02d}$" + "a" * 53


@pytest.mark.parametrize(
    "hashed",
    [
        argon2_hash(65536, 3, 4),  # RFC 9106, and argon2-cffi
        argon2_hash(47104, 1, 1),  # Caddy
        argon2_hash(19456, 2, 1),  # OWASP
        argon2_hash(131072, 5, 4),
        argon2_hash(65536, 10, 1),
        argon2_hash(kind="argon2i"),
        argon2_hash(kind="argon2d"),
        bcrypt_hash(5),  # htpasswd
        bcrypt_hash(12),  # the bcrypt package, and PHP
        bcrypt_hash(13),
        bcrypt.hashpw(b"x", b"$2b$04$" + b"." * 22).decode(),
        argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(
            "x", salt=b"of 16 bytes each"
        ),
    ],
)
def test_hashes_of_common_tools_are_accepted(hashed: str) -> None:
    hash_cost(hashed).check(REFERENCE_SPEED, "here")


@pytest.mark.parametrize(
    ("hashed", "message"),
    [
        (
            bcrypt_hash(14),
            (
                "bcrypt of cost 14 takes 820 ms here, at most 500 ms is allowed; create a hash with"
                " caddy"
            ),
        ),
        (bcrypt_hash(31), "bcrypt of cost 31 takes 107374183 ms here"),
        (argon2_hash(131072, 6, 4), "argon2id m=131072,t=6,p=4 takes 551 ms here, at most 500 ms"),
    ],
)
def test_a_hash_that_takes_too_long_is_refused_with_the_figure(hashed: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        hash_cost(hashed).check(REFERENCE_SPEED, "here")
    assert str(caught.value).startswith(message)
    assert "--algorithm argon2id" in str(caught.value)


@pytest.mark.parametrize(
    ("hashed", "message"),
    [
        (argon2_hash(memory=MAX_ARGON2_MEMORY + 1, time=1), "at most m=131072,t=10,p=4 is allowed"),
        (argon2_hash(memory=64, time=MAX_ARGON2_ITERATIONS + 1), "t=11"),
        (argon2_hash(memory=64, time=1, lanes=MAX_ARGON2_LANES + 1), "p=5"),
        (argon2_hash(memory=9999999999), "m=9999999999"),
        (bcrypt_hash(3), "invalid bcrypt cost 3"),
        (bcrypt_hash(32), "invalid bcrypt cost 32"),
        ("secret", "plain-text password"),
        ("$1$abc$def", "unsupported hash type"),
        (argon2_hash(memory=10**10), "unsupported hash type"),
        (argon2_hash() + "\n", "unsupported hash type"),
        (argon2_hash().replace("65536", "٦"), "unsupported hash type"),
    ],
)
def test_invalid_hashes_and_parameters(hashed: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hash_cost(hashed)


def test_a_slower_machine_accepts_less() -> None:
    cost = hash_cost(bcrypt_hash(13))
    cost.check(HashSpeed(0.0, 61e-6), "on this server")
    with pytest.raises(ValueError, match="takes 508 ms on this server"):
        cost.check(HashSpeed(0.0, 62e-6), "on this server")


@given(
    st.integers(8, MAX_ARGON2_MEMORY),
    st.integers(1, MAX_ARGON2_ITERATIONS),
    st.integers(1, MAX_ARGON2_LANES),
)
def test_cost_grows_with_memory_and_iterations_and_not_with_lanes(
    memory: int, time: int, lanes: int
) -> None:
    cost = hash_cost(argon2_hash(memory, time, lanes))
    assert cost.seconds(HashSpeed(1.0, 1000.0)) == memory * time
