"""A failure keeps its meaning when it crosses the tunnel."""

import pytest

from zerotrust import errors
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.error_codes import code_for, error_for, reason_for

REPORTED = [
    errors.UpstreamUnreachable,
    errors.UpstreamTimeout,
    errors.ConnectTimeout,
    errors.UpstreamFailed,
    errors.UpstreamsDown,
    errors.UpstreamsBusy,
    errors.ServiceGone,
]


@pytest.mark.parametrize("kind", REPORTED)
def test_what_the_agent_reports_is_what_the_server_answers(kind: type[errors.ForwardError]) -> None:
    assert type(error_for(code_for(kind("why")), "why")) is kind


@pytest.mark.parametrize("code", list(Code))
def test_every_code_becomes_an_answer(code: Code) -> None:
    error = error_for(code, "")
    assert 500 <= error.status < 600
    assert str(error)


def test_an_unknown_failure_is_a_fault_of_our_own() -> None:
    assert code_for(errors.ForwardError("?")) is Code.INTERNAL


@pytest.mark.parametrize("kind", [errors.UpstreamsDown, errors.UpstreamsBusy])
@pytest.mark.parametrize(
    ("given", "heard"), [(1, 1), (60, 60), (3600, 3600), (9999, 3600), (None, None)]
)
def test_the_time_for_another_try_crosses_the_tunnel(
    kind: type[errors.ForwardError], given: int | None, heard: int | None
) -> None:
    error = kind("all are down", retry_after=given)
    found = error_for(code_for(error), reason_for(error))
    assert (type(found), str(found), found.retry_after) == (kind, "all are down", heard)


@pytest.mark.parametrize("reason", ["0 x", "99999 x", "-1 x", "\u0661 x", "x", "5", ""])
def test_what_is_no_time_is_left_in_the_words(reason: str) -> None:
    found = error_for(Code.UPSTREAMS_BUSY, reason)
    assert (found.retry_after, str(found)) == (None, reason or "UPSTREAMS_BUSY")


def test_other_codes_carry_no_time() -> None:
    assert error_for(Code.UPSTREAM_FAILED, "5 x").retry_after is None
