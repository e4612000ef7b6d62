"""Password hashes that `basic_auth` accepts, and the processor time to verify one."""

import re
from math import ceil
from typing import Final, NamedTuple

_BCRYPT: Final = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_ARGON2: Final = re.compile(
    r"\$(argon2(?:id|i|d))\$v=[0-9]+\$m=([0-9]{1,10}),t=([0-9]{1,10}),p=([0-9]{1,10})"
    r"\$[A-Za-z0-9+/]{8,}\$[A-Za-z0-9+/]{16,}"
)

MAX_SECONDS: Final = 0.5
"""Maximum processor time of one verification. A verification cannot be interrupted, so other logins
wait for its thread."""
MAX_ARGON2_MEMORY: Final = 131_072
"""Maximum memory in KiB. At most four verifications run at the same time: 512 MiB in total."""
MAX_ARGON2_ITERATIONS: Final = 10
"""RFC 9106 recommends 1 or 3. Each iteration starts threads, whose cost is not proportional to the
memory."""
MAX_ARGON2_LANES: Final = 4
"""RFC 9106 recommends 4. Each lane is a thread that competes with the server's event loop."""
MIN_BCRYPT_COST: Final = 4
MAX_BCRYPT_COST: Final = 31
"""The limits of bcrypt itself. `MAX_SECONDS` excludes high costs earlier."""

HOW_TO_HASH: Final = (
    "create a hash with caddy hash-password --algorithm argon2id (m=47104,t=1,p=1) or htpasswd -nB"
    " NAME"
)


class HashSpeed(NamedTuple):
    """Processor seconds that a machine needs for each unit of `HashCost`."""

    argon2_block: float
    bcrypt_round: float


REFERENCE_SPEED: Final = HashSpeed(argon2_block=0.7e-6, bcrypt_round=50e-6)
"""Measured on one core of a small cloud server: argon2id m=65536,t=3 takes 0.14 s there, bcrypt
of cost 12 0.2 s."""


class HashCost(NamedTuple):
    """Work of one verification.

    Attributes:
        name: the algorithm and its parameters.
        argon2_blocks: blocks of 1 KiB that argon2 computes in all iterations.
        bcrypt_rounds: expensive key set-ups of bcrypt: two to the power of its cost.
    """

    name: str
    argon2_blocks: int = 0
    bcrypt_rounds: int = 0

    def seconds(self, speed: HashSpeed) -> float:
        """Return the processor time on a machine of this speed."""
        return self.argon2_blocks * speed.argon2_block + self.bcrypt_rounds * speed.bcrypt_round

    def check(self, speed: HashSpeed, machine: str) -> None:
        """Check that a verification takes at most `MAX_SECONDS` at a given speed.

        Args:
            machine: name of the machine with this speed, for the message.

        Raises:
            ValueError: the verification takes longer.
        """
        seconds = self.seconds(speed)
        if seconds > MAX_SECONDS:
            raise ValueError(
                f"{self.name} takes {ceil(seconds * 1000)} ms {machine}, "
                f"at most {MAX_SECONDS * 1000:.0f} ms is allowed; {HOW_TO_HASH}"
            )


def hash_cost(hashed: str) -> HashCost:
    """Return the cost of a password hash.

    Raises:
        ValueError: not a hash of an accepted algorithm, or its parameters are out of range.
    """
    if match := _BCRYPT.fullmatch(hashed):
        cost = int(match[1])
        if not MIN_BCRYPT_COST <= cost <= MAX_BCRYPT_COST:
            raise ValueError(f"invalid bcrypt cost {cost}; {HOW_TO_HASH}")
        return HashCost(f"bcrypt of cost {cost}", bcrypt_rounds=1 << cost)
    if match := _ARGON2.fullmatch(hashed):
        memory, iterations, lanes = (int(digits) for digits in match.groups()[1:])
        name = f"{match[1]} m={memory},t={iterations},p={lanes}"
        if (
            memory > MAX_ARGON2_MEMORY
            or iterations > MAX_ARGON2_ITERATIONS
            or lanes > MAX_ARGON2_LANES
        ):
            limits = f"m={MAX_ARGON2_MEMORY},t={MAX_ARGON2_ITERATIONS},p={MAX_ARGON2_LANES}"
            raise ValueError(f"{name} is too costly; at most {limits} is allowed; {HOW_TO_HASH}")
        return HashCost(name, argon2_blocks=memory * iterations)
    raise ValueError(f"plain-text password or unsupported hash type; {HOW_TO_HASH}")
