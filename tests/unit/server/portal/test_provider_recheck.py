"""Tests of zerotrust.server.portal.provider_recheck."""

import asyncio
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from tests.support.auth_host import SignInsInMemory
from tests.unit.server.portal.provider_stand_in import SignInStandIn, signing_in
from zerotrust.errors import StateError
from zerotrust.server.access.sign_ins import SignIns
from zerotrust.server.portal.provider_recheck import Rechecks

pytestmark = pytest.mark.anyio

SUB = "248289761001"


def rechecks(rig: SignInStandIn, *, pause: float = 10.0) -> Rechecks:
    return Rechecks(cast("SignIns", rig.store), rig.providers, pause=pause)


async def signed_in(rig: SignInStandIn) -> str:
    """Sign in; return the refresh token that is kept."""
    async with rig.browser() as browser:
        assert (await rig.sign_in(browser)).status_code == 303
    token = rig.store.accounts[-1].refresh
    assert token is not None
    rig.store.due = [("main", SUB, token)]
    return token


async def test_a_user_who_may_stay(tmp_path: Path) -> None:
    async with signing_in(tmp_path, recheck="15m", groups_claim="groups") as rig:
        rig.provider.user["groups"] = ["a", "b"]
        token = await signed_in(rig)
        rig.provider.user["groups"] = ["b"]
        await rechecks(rig).recheck()
        [account] = rig.store.rechecks
        assert (account.subject, account.groups) == (SUB, ("b",))
        assert account.refresh not in (None, token), "a new token replaces the old one"
        assert rig.store.refused == []


async def test_offline_access_is_asked_for(tmp_path: Path) -> None:
    async with signing_in(tmp_path, recheck="15m") as rig, rig.browser() as browser:
        url = await rig.leave(browser)
        assert "offline_access" in url and "prompt=consent" in url


async def test_a_refused_refresh_token_ends_the_sign_ins(tmp_path: Path) -> None:
    async with signing_in(tmp_path, recheck="15m") as rig:
        await signed_in(rig)
        rig.provider.refused_refresh_tokens = True
        await rechecks(rig).recheck()
        assert rig.store.refused == [("main", SUB)]
        assert rig.store.rechecks == []


async def test_a_user_who_may_no_longer_sign_in(tmp_path: Path) -> None:
    condition = [{"email_domain": "example.com"}]
    async with signing_in(tmp_path, recheck="15m", sign_in=condition) as rig:
        await signed_in(rig)
        rig.provider.user["email"] = "anna@elsewhere.example"
        await rechecks(rig).recheck()
        assert rig.store.refused == [("main", SUB)]


@pytest.mark.parametrize("status", [500, 503, 429, 404, 302, 200])
async def test_a_provider_that_does_not_answer_ends_nothing(tmp_path: Path, status: int) -> None:
    async with signing_in(tmp_path, recheck="15m") as rig:
        await signed_in(rig)
        rig.provider.answers["/token"] = (status, b"oops", [])
        checks = rechecks(rig)
        await checks.recheck()
        await checks.recheck()
        assert rig.provider.requests.count("/token") == 2, "asked again after a while only"
        assert (rig.store.refused, rig.store.rechecks) == ([], [])


async def test_a_provider_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    async with signing_in(tmp_path, recheck="15m") as rig:
        await signed_in(rig)
    await rechecks(rig).recheck()
    assert (rig.store.refused, rig.store.rechecks) == ([], [])


async def test_a_wrong_client_secret_ends_nothing(tmp_path: Path) -> None:
    async with signing_in(tmp_path, recheck="15m") as rig:
        await signed_in(rig)
        (tmp_path / "client.secret").write_text("wrong")
        await rechecks(rig).recheck()
        assert (rig.store.refused, rig.store.rechecks) == ([], [])


async def test_the_token_of_another_user_ends_nothing(tmp_path: Path) -> None:
    async with signing_in(tmp_path, recheck="15m") as rig:
        await signed_in(rig)
        rig.provider.lies = {"sub": "1"}
        await rechecks(rig).recheck()
        assert (rig.store.refused, rig.store.rechecks) == ([], [])


async def test_user_info_stands_in_for_the_id_token(tmp_path: Path) -> None:
    async with signing_in(tmp_path, recheck="15m") as rig:
        await signed_in(rig)
        rig.provider.token_answer = {"id_token": None}
        rig.provider.user["email"] = "new@example.com"
        await rechecks(rig).recheck()
        assert rig.store.rechecks[0].email == "new@example.com"


async def test_a_provider_that_says_nothing_about_the_user(tmp_path: Path) -> None:
    async with signing_in(tmp_path, recheck="15m") as rig:
        rig.provider.discovery = {"userinfo_endpoint": None}
        await signed_in(rig)
        rig.provider.token_answer = {"id_token": None}
        with capture_logs() as lines:
            await rechecks(rig).recheck()
        assert "no UserInfo" in lines[0]["reason"]
        assert (rig.store.refused, rig.store.rechecks) == ([], [])


async def test_an_account_of_a_removed_provider_is_left_alone(tmp_path: Path) -> None:
    async with signing_in(tmp_path, recheck="15m") as rig:
        rig.store.due = [("removed", SUB, "token")]
        await rechecks(rig).recheck()
        assert rig.provider.requests == []


class _FailingStore(SignInsInMemory):
    """The database can't be used once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def due_rechecks(self) -> list[tuple[str, str, str]]:
        if not self.asked.is_set():
            self.asked.set()
            raise StateError("locked")
        return await super().due_rechecks()

    async def rechecked(self, account: object) -> None:
        raise StateError("locked")


async def test_a_database_that_cannot_be_used(tmp_path: Path) -> None:
    async with signing_in(tmp_path, recheck="15m") as rig:
        await signed_in(rig)
        due, rig.store = rig.store.due, _FailingStore()
        rig.store.due = due
        checks = rechecks(rig)
        with pytest.raises(StateError):
            await checks.recheck()
        await checks.recheck()
        assert rig.store.refused == []


async def test_it_runs_until_it_is_cancelled(tmp_path: Path) -> None:
    async with signing_in(tmp_path, recheck="15m") as rig:
        await signed_in(rig)
        due, store = rig.store.due, _FailingStore()
        rig.store = store
        store.due = due
        task = asyncio.get_running_loop().create_task(rechecks(rig, pause=0.001).run())
        async with asyncio.timeout(10):
            while rig.provider.requests.count("/token") < 2:
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
