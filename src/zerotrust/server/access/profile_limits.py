"""Rate limits of requests that pass by a profile, without a credential."""

from zerotrust.access.gate import Gate
from zerotrust.access.profiles import PROFILES
from zerotrust.limits.client_network import network_of
from zerotrust.limits.gcra import CellRate


class ProfileLimits:
    """One rate limiter for each rule with a profile; it outlives a reload of the rules."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str, str], CellRate] = {}

    def wait(self, gate: Gate, client: bytes, now: float) -> int:
        """Count a request; return the seconds until the client may try again, 0 if it may pass.

        Args:
            client: the client's address; all clients without one share a limit.
            now: monotonic, in seconds.
        """
        name = gate.rule.profile
        if name is None:
            return 0
        # The pattern and not the host name: strangers choose names below a wildcard.
        key = (gate.host_pattern, name)
        limit = self._limits.get(key)
        if limit is None:
            limit = self._limits[key] = PROFILES[name].limit
        return limit.wait(limit.take(network_of(client), now))
