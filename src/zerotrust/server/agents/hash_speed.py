"""Password hashing speed of this machine, and the check of hashes against it."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import argon2
import bcrypt

from zerotrust.errors import ConfigError
from zerotrust.model.middleware import BasicAuth
from zerotrust.model.password_hash import HashSpeed, hash_cost
from zerotrust.server.agents.service_policy import CompiledPolicy

_RUNS: Final = 3
"""Runs of each measurement. The quickest counts: other work only makes a run slower."""
_BCRYPT_COST: Final = 6
_ARGON2: Final = argon2.Parameters(
    type=argon2.Type.ID,
    version=19,
    salt_len=16,
    hash_len=32,
    time_cost=2,
    memory_cost=32_768,
    parallelism=1,
)
"""The memory of a costly hash does not fit into the processor's caches, and neither does this. One
lane is timed well: it needs no other thread."""


async def measure_hash_speed() -> HashSpeed:
    """Measure this machine, in a thread; it takes a tenth of a second."""
    return await asyncio.to_thread(_measure)


def _measure() -> HashSpeed:
    hasher = argon2.PasswordHasher.from_parameters(_ARGON2)
    salt = bcrypt.gensalt(_BCRYPT_COST)
    return HashSpeed(
        argon2_block=_quickest(lambda: hasher.hash("x"))
        / (_ARGON2.memory_cost * _ARGON2.time_cost),
        bcrypt_round=_quickest(lambda: bcrypt.hashpw(b"x", salt)) / (1 << _BCRYPT_COST),
    )


def _quickest(run: Callable[[], object]) -> float:
    """Return the processor time of this thread for the quickest of some runs, in seconds."""
    seconds = []
    for _ in range(_RUNS):
        begun_at = time.thread_time()
        run()
        seconds.append(time.thread_time() - begun_at)
    return min(seconds)


def check_hashes(policy: CompiledPolicy | None, speed: HashSpeed) -> None:
    """Refuse a policy with a hash that takes too long on a machine of this speed.

    Raises:
        ConfigError: the message names the user, the hash's parameters, the time and the limit.
    """
    for config, _ in policy.policy.made if policy is not None else ():
        if isinstance(config, BasicAuth):
            for name, hashed in config.config.users.items():
                try:
                    hash_cost(hashed).check(speed, "on this server")
                except ValueError as error:
                    raise ConfigError(f'basic_auth: user "{name[:32]}": {error}') from None
