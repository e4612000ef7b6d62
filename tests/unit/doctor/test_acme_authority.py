"""Tests of zerotrust.doctor.acme_authority."""

from email.utils import formatdate

import pytest

from tests.support.ports import closed_port
from tests.support.scripted_server import scripted, status
from zerotrust.doctor.acme_authority import AuthorityAnswer, ask_authority, judge_authority

pytestmark = pytest.mark.anyio


def checks(answer: AuthorityAnswer) -> list[str]:
    return [one.check for one in judge_authority(answer)]


async def test_an_authority() -> None:
    dated = status(200, f"Date: {formatdate(usegmt=True)}")
    async with scripted(lambda _: dated) as port:
        assert checks(await ask_authority(f"http://127.0.0.1:{port}/directory")) == []
    wrong = status(200, "Date: Thu, 01 Jan 1970 00:00:00 GMT")
    async with scripted(lambda _: wrong) as port:
        assert checks(await ask_authority(f"http://127.0.0.1:{port}/")) == ["clock.offset"]
    async with scripted(lambda _: status(503)) as port:
        found = await ask_authority(f"http://127.0.0.1:{port}/")
    assert (found.error, checks(found)) == ("status 503", ["acme.unreachable"])


async def test_an_authority_that_is_not_reached() -> None:
    found = await ask_authority(f"http://127.0.0.1:{closed_port()}/")
    assert checks(found) == ["acme.unreachable"]
    async with scripted(lambda _: b"") as port:
        found = await ask_authority(f"http://127.0.0.1:{port}/", step_timeout=0.1)
    assert checks(found) == ["acme.unreachable"]
