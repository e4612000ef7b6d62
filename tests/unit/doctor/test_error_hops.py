"""Tests of zerotrust.doctor.error_hops."""

import pytest

from zerotrust import errors
from zerotrust.doctor.error_hops import hop_of, status_fix


@pytest.mark.parametrize(
    ("error", "hop"),
    [
        (errors.UnknownHost, "agent"),
        (errors.NoAgent, "agent"),
        (errors.AgentLost, "agent"),
        (errors.ServiceGone, "agent"),
        (errors.Overloaded, "agent"),
        (errors.UpstreamsDown, "upstream"),
        (errors.UpstreamsBusy, "upstream"),
        (errors.UpstreamUnreachable, "upstream"),
        (errors.UpstreamTimeout, "upstream"),
        (errors.UpstreamFailed, "upstream"),
        (errors.UpgradeRefused, "policy"),
        (errors.WrongScheme, "policy"),
        (errors.HeadTooLarge, "policy"),
    ],
)
def test_errors_of_each_hop(error: type[errors.ForwardError], hop: str) -> None:
    assert hop_of(error.code)[0] == hop


def test_an_unknown_error_has_a_fix() -> None:
    assert hop_of("of_a_later_version") == (
        "policy",
        "see docs/troubleshooting.md, and the logs under the request id of the answer",
    )


def test_answers_to_a_handshake() -> None:
    fixes = [status_fix(status) for status in (0, 200, 400, 401, 403, 426)]
    assert len({*fixes}) == 5
    assert status_fix(400) == status_fix(426)
