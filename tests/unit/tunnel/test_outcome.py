"""A failure keeps its meaning when it crosses the tunnel."""

import pytest

from zerotrust import errors
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.outcome import code_for, error_for

REPORTED = [errors.UpstreamUnreachable, errors.UpstreamTimeout, errors.UpstreamFailed, errors.ServiceGone]


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
