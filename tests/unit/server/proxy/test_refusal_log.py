"""Tests of zerotrust.server.proxy.refusal_log."""

from structlog.testing import capture_logs

from zerotrust.server.proxy.refusal_log import MAX_LINES, RefusedRequestLog


def test_the_lines_of_a_second_are_bounded_and_the_others_counted() -> None:
    refusals = RefusedRequestLog()
    with capture_logs() as lines:
        for number in range(MAX_LINES + 7):
            refusals.refused(5.0 + number / 1000, host="a.example", request=f"{number}", code="x")
        assert len(lines) == MAX_LINES
        refusals.refused(6.0, host="a.example", request="next", code="unknown_host")
    assert lines[MAX_LINES:] == [
        {
            "log_level": "warning",
            "event": "refused requests are not all logged",
            "left_out": 7,
        },
        {
            "log_level": "info",
            "event": "request refused",
            "host": "a.example",
            "request": "next",
            "code": "unknown_host",
        },
    ]


def test_few_refusals_are_all_logged() -> None:
    refusals = RefusedRequestLog()
    with capture_logs() as lines:
        for second in range(3):
            for _ in range(MAX_LINES):
                refusals.refused(float(second), host="a.example", request="r", code="x")
    assert [line["event"] for line in lines] == ["request refused"] * 3 * MAX_LINES
