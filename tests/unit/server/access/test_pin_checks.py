"""Tests of zerotrust.server.access.pin_checks."""

import asyncio

import argon2
import pytest

from tests.support.people import Clock
from zerotrust.errors import TooManyTries
from zerotrust.server.access import pin_checks
from zerotrust.server.access.pin_checks import MAX_WAITING, PinAsleep, PinChecks

pytestmark = pytest.mark.anyio


async def test_right_and_wrong(anyio_backend: object) -> None:
    checks = PinChecks(Clock())
    hashed = await checks.hash("123456")
    assert hashed.startswith("$argon2id$")
    assert await checks.is_right("123456", hashed, "192.0.2.1")
    assert not await checks.is_right("123457", hashed, "192.0.2.1")
    assert not await checks.is_right("123456", "damaged", "192.0.2.1")


async def test_the_loop_goes_on_while_a_pin_is_verified(anyio_backend: object) -> None:
    checks = PinChecks(Clock())
    hashed = await checks.hash("123456")
    turns = 0
    task = asyncio.get_running_loop().create_task(checks.is_right("123456", hashed, ""))
    while not task.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 2


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(pin_checks, "HASHER", hasher)


@pytest.mark.usefixtures("cheap")
async def test_few_wait_at_once_and_right_ones_do_not_count(anyio_backend: object) -> None:
    checks = PinChecks(Clock())
    hashed = await checks.hash("123456")
    results = await asyncio.gather(
        *(checks.is_right("123456", hashed, "192.0.2.1") for _ in range(MAX_WAITING + 10)),
        return_exceptions=True,
    )
    assert results.count(True) == MAX_WAITING
    assert len([found for found in results if isinstance(found, TooManyTries)]) == 10


@pytest.mark.usefixtures("cheap")
async def test_tries_come_back_with_time(anyio_backend: object) -> None:
    clock = Clock()
    checks = PinChecks(clock)
    hashed = await checks.hash("123456")
    for _ in range(5):
        assert not await checks.is_right("x", hashed, "192.0.2.1")
    with pytest.raises(TooManyTries) as caught:
        await checks.is_right("123456", hashed, "192.0.2.1")
    clock.now += caught.value.retry_after
    assert await checks.is_right("123456", hashed, "192.0.2.1")
    for number in range(25):
        assert not await checks.is_right("x", hashed, f"198.51.100.{number}")
    assert checks.is_asleep(hashed)
    with pytest.raises(PinAsleep) as asleep:
        await checks.is_right("123456", hashed, "203.0.113.1")
    clock.now += asleep.value.retry_after
    assert not checks.is_asleep(hashed)
    assert await checks.is_right("123456", hashed, "203.0.113.1")
