"""The part of a request that rules of access look at."""

from zerotrust.routing.match import readings


class GateRequest:
    """A request for the gate of its host name.

    Args:
        target: path and query as the client sent them.
        client: the client's address in canonical form; empty if unknown.
        unix_time: seconds since 1970.
    """

    __slots__ = ("_readings", "client", "method", "target", "unix_time")

    def __init__(
        self, method: bytes, target: bytes, *, client: bytes = b"", unix_time: float = 0.0
    ) -> None:
        self.method = method
        self.target = target
        self.client = client
        self.unix_time = unix_time
        self._readings: tuple[bytes, ...] | None = None

    @property
    def readings(self) -> tuple[bytes, ...]:
        """Return the ways in which a backend may read the path (`routing.match`).

        Raises:
            AmbiguousPath, PathTooLong: as `routing.match.readings`.
        """
        if self._readings is None:
            self._readings = readings(self.target.partition(b"?")[0])
        return self._readings
