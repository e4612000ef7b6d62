"""Tests of zerotrust.telemetry.request_record."""

import pytest

from zerotrust.telemetry.request_record import MAX_TARGET_BYTES, RequestRecord


def record(target: bytes = b"/", **values: object) -> RequestRecord:
    made = RequestRecord("1-1", method=b"GET", host="a", target=target, time=0.0, began_at=10.0)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_a_long_target_is_cut() -> None:
    assert len(record(b"/" + b"a" * 60000).target) == MAX_TARGET_BYTES


def test_path_and_query_are_ascii() -> None:
    made = record(b"/caf\xc3\xa9?q=\xff")
    assert (made.path, made.query) == ("/caf\\xc3\\xa9", "q=\\xff")


def test_the_parts_add_up_to_the_duration() -> None:
    made = record(
        waited=1.0, forwarded_at=13.0, queued=0.5, backend_time=2.0, answered_at=17.0, ended_at=20.0
    )
    parts = (made.policy, made.tunnel, made.connect, made.backend, made.body)
    assert parts == (2.0, 1.5, 0.5, 2.0, 3.0)
    assert made.waited + sum(filter(None, parts)) == made.duration == 10.0


def test_an_agent_that_reports_too_much_makes_no_negative_times() -> None:
    made = record(forwarded_at=11.0, queued=9.0, backend_time=9.0, answered_at=12.0, ended_at=12.0)
    assert made.tunnel == 0.0


@pytest.mark.parametrize(
    ("status", "error", "failed"),
    [
        (200, "", False),
        (404, "", False),
        (403, "access_denied", False),
        (502, "upstream_failed", True),
        (500, "", True),
        (200, "upstream_failed", True),
        (0, "", True),
        (101, "", False),
        (101, "going_away", False),
        (101, "access_ended", False),
        (101, "limit", False),
        (101, "upstream_failed", True),
        (200, "going_away", True),
    ],
)
def test_failures(status: int, error: str, failed: bool) -> None:
    assert record(status=status, error=error).failed is failed
