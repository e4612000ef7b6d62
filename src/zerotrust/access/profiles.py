"""Profiles: the parts of a program that its native apps need without signing in.

Home Assistant's companion apps send sensor values and locations in the background, where they have
no cookies, to `/api/webhook/ID`. The id has 256 random bits, and Home Assistant asks for no other
proof there (its components webhook and mobile_app). Everything else, also `/api/websocket` and
`/auth/token`, needs a sign-in, a pairing or a token.
"""

from dataclasses import dataclass
from typing import Final

from zerotrust.limits.gcra import CellRate
from zerotrust.model.access import PathRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Paths that are open to everyone, with a limit.

    Attributes:
        paths: they come after `paths` of the rule, and apply to `methods` only. `deny` and
            `require` apply to them too.
        methods: HTTP methods that the profile opens.
        requests, seconds: most requests of one client network, in this time.
        says: the effect in words, for `config check` and `access list`.
    """

    paths: tuple[PathRule, ...]
    methods: frozenset[bytes]
    requests: int
    seconds: float
    says: str

    @property
    def limit(self) -> CellRate:
        """Return a new rate limiter, whose keys are client networks (`limits.client_network`)."""
        return CellRate(self.requests, self.seconds)


PROFILES: Final = {
    "home_assistant": Profile(
        paths=(PathRule(match=["/api/webhook/*"], allow="anyone"),),
        methods=frozenset((b"POST",)),
        requests=300,
        seconds=60.0,
        says=(
            "POST /api/webhook/* is open to everyone, 300 requests a minute from one client network"
        ),
    )
}
"""All profiles by name."""
