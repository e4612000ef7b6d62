"""Tests of zerotrust.db.change_signal."""

import asyncio

import pytest

from zerotrust.db.change_signal import ChangeSignal

pytestmark = pytest.mark.anyio


async def test_a_notification_wakes_all_who_wait() -> None:
    signal = ChangeSignal()
    waiting = [asyncio.create_task(signal.wait(signal.count, within=15)) for _ in range(3)]
    await asyncio.sleep(0)
    signal.send()
    await asyncio.gather(*waiting)
    assert signal.count == 1


async def test_a_notification_before_the_wait_is_not_missed() -> None:
    signal = ChangeSignal()
    seen = signal.count
    signal.send()
    await signal.wait(seen, within=15)


async def test_a_wait_without_a_notification_ends_in_time() -> None:
    signal = ChangeSignal()
    await signal.wait(signal.count, within=0.01)
    assert signal.count == 0


async def test_readers_look_when_notifications_begin_or_end() -> None:
    signal = ChangeSignal()
    for proven in (True, False):
        seen = signal.count
        signal.prove(proven)
        await signal.wait(seen, within=15)
        assert signal.proven is proven
        signal.prove(proven)
        assert signal.count == seen + 1, "nothing has changed"
