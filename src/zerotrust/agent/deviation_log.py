"""Log of what the agent forgives in the answers of one upstream."""

from zerotrust.http.deviations import Deviation
from zerotrust.telemetry import logs

_log = logs.logger("upstreams")


class DeviationLog:
    """Logs each deviation of an upstream's answers once.

    Args:
        upstream: its address as the configuration has it.
    """

    def __init__(self, *, service: str, upstream: str) -> None:
        self._service = service
        self._upstream = upstream
        self._known: set[Deviation] = set()

    def note(self, deviation: Deviation, name: str) -> None:
        """Log a deviation that is new; `name` is that of a dropped field."""
        if deviation in self._known:
            return
        self._known.add(deviation)
        log = _log.warning if deviation is Deviation.NO_FIELD else _log.info
        log(
            "answer deviates from HTTP/1.1 and was repaired",
            service=self._service,
            upstream=self._upstream,
            fault=f"{deviation.fault}: {name}" if name else deviation.fault,
            fix=deviation.fix,
        )
