"""Tests of zerotrust.agent.deviation_log."""

from structlog.testing import capture_logs

from zerotrust.agent.deviation_log import DeviationLog
from zerotrust.http.deviations import Deviation


def test_each_deviation_is_logged_once() -> None:
    log = DeviationLog(service="web", upstream="127.0.0.1:80")
    with capture_logs() as lines:
        for _ in range(3):
            log.note(Deviation.BARE_LF, "")
            log.note(Deviation.NO_FIELD, "X Y")
    told = [(line["log_level"], line["fault"], line["fix"]) for line in lines]
    assert told == [
        ("info", Deviation.BARE_LF.fault, Deviation.BARE_LF.fix),
        ("warning", f"{Deviation.NO_FIELD.fault}: X Y", Deviation.NO_FIELD.fix),
    ]
    assert {(line["service"], line["upstream"]) for line in lines} == {("web", "127.0.0.1:80")}
