"""Log of refused requests: a bounded number of lines a second, whatever clients ask for."""

from typing import Final

from zerotrust.telemetry import logs

_log = logs.logger("ingress")

MAX_LINES: Final = 100
"""Lines of one second. A line takes several times as long as the refusal itself, so strangers could
keep the server busy with its log alone. The metrics and the access log have all refusals."""


class RefusedRequestLog:
    """Logs refused requests."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def refused(self, now: float, *, host: str, request: str, code: str) -> None:
        """Log a refused request, unless there were `MAX_LINES` in this second.

        Args:
            now: seconds of a monotonic clock.
        """
        second = int(now)
        if second != self._second:
            self._second, self._lines = second, 0
            if self._left_out:
                _log.warning("refused requests are not all logged", left_out=self._left_out)
                self._left_out = 0
        if self._lines < MAX_LINES:
            self._lines += 1
            _log.info("request refused", host=host, request=request, code=code)
        else:
            self._left_out += 1
