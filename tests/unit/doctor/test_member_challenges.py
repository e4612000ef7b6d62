"""Tests of zerotrust.doctor.member_challenges."""

import pytest

from tests.support.ports import closed_port
from tests.support.scripted_server import scripted, status
from zerotrust.doctor.member_challenges import ask_members, judge_members
from zerotrust.http.acme_challenge import CHALLENGE_PREFIX, UNKNOWN_CHALLENGE

pytestmark = pytest.mark.anyio

MEMBER = "127.0.0.1:8443"


async def test_a_member_that_can_be_asked() -> None:
    heads: list[str] = []

    def script(head: str) -> bytes:
        heads.append(head)
        return status(404, body=UNKNOWN_CHALLENGE)

    async with scripted(script) as port:
        assert [*judge_members(await ask_members([MEMBER], port))] == []
    assert heads[0].startswith(f"GET {CHALLENGE_PREFIX.decode()}")
    assert heads[0].split()[1].endswith("?0trust-member")


async def test_another_program() -> None:
    async with scripted(lambda _: status(404, body=b"not found")) as port:
        (finding,) = judge_members(await ask_members([MEMBER], port))
    assert (finding.check, finding.subject) == ("member.unreachable", f"127.0.0.1:{port}")
    assert "status 404" in finding.seen


async def test_a_closed_port() -> None:
    (finding,) = judge_members(await ask_members([MEMBER], closed_port()))
    assert "refused" in finding.seen.lower()


async def test_a_member_that_is_silent() -> None:
    async with scripted(lambda _: b"") as port:
        (finding,) = judge_members(await ask_members([MEMBER], port, step_timeout=0.1))
    assert "no answer within" in finding.seen
