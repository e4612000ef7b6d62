"""Tests of zerotrust.server.proxy.verification_pool."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from zerotrust.middleware.interface import NeedsVerification, Verification
from zerotrust.net.tasks import Tasks
from zerotrust.server.proxy import verification_pool
from zerotrust.server.proxy.verification_pool import (
    MAX_WAITING_OF_AGENT,
    MAX_WAITING_OF_NETWORK,
    VerificationPool,
)

pytestmark = pytest.mark.anyio

HERE, THERE = b"192.0.2.1", b"192.0.2.2"


class Handler:
    """A handler whose verifications end when the test says so."""

    def __init__(self, answer: bool = True) -> None:
        self.begun: list[str] = []
        self.threads: set[int] = set()
        self.may = threading.Event()
        self.answer = answer

    def pending(self, word: str) -> NeedsVerification:
        def run() -> bool:
            self.begun.append(word)
            self.threads.add(threading.get_ident())
            assert self.may.wait(10)
            return self.answer

        return NeedsVerification(self, Verification(word.encode(), run))

    def verified(self, *_: Any) -> None:
        raise NotImplementedError


class Scenario:
    """A verification pool and its results by request."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self.verifications = VerificationPool(self.tasks)
        self.told: list[tuple[str, bool | None]] = []

    def ask(
        self, handler: Handler, word: str, *, agent: str = "a", client: bytes = HERE, name: str = ""
    ) -> Callable[[], None]:
        def tell(result: bool | None) -> None:
            self.told.append((name or word, result))

        return self.verifications.ask(handler.pending(word), tell, agent=agent, client=client)

    async def settled(self) -> list[tuple[str, bool | None]]:
        async with asyncio.timeout(10):
            while self.tasks.running:
                await asyncio.gather(*self.tasks.running)
        await asyncio.sleep(0)
        assert not self.verifications.jobs
        assert not self.verifications.queue
        return self.told


@pytest.fixture(params=[1])
async def scenario(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scenario]:
    """Has one thread, so that verifications are begun in the order of their turns."""
    monkeypatch.setattr(verification_pool, "THREADS", request.param)
    found = Scenario()
    yield found
    await found.tasks.close()


@pytest.fixture
async def busy(scenario: Scenario) -> Handler:
    """The thread is taken until the test lets it go."""
    handler = Handler()
    scenario.ask(handler, "busy", agent="busy")
    return handler


def results(told: list[tuple[str, bool | None]]) -> dict[str, bool | None]:
    return {name: result for name, result in told if name != "busy"}


@pytest.mark.parametrize("answer", [True, False])
async def test_all_who_wait_hear_of_one_run(scenario: Scenario, answer: bool) -> None:
    handler = Handler(answer)
    scenario.ask(handler, "x", name="first")
    await asyncio.sleep(0)
    scenario.ask(handler, "x", name="second", client=THERE)
    assert not scenario.told
    handler.may.set()
    assert await scenario.settled() == [("first", answer), ("second", answer)]
    assert handler.begun == ["x"]
    assert threading.get_ident() not in handler.threads
    scenario.ask(handler, "x")
    await scenario.settled()
    assert handler.begun == ["x", "x"]


async def test_the_same_digest_of_another_handler_is_another_verification(
    scenario: Scenario,
) -> None:
    right, wrong = Handler(True), Handler(False)
    right.may.set()
    wrong.may.set()
    scenario.ask(right, "x", name="right")
    scenario.ask(wrong, "x", name="wrong")
    assert dict(await scenario.settled()) == {"right": True, "wrong": False}


async def test_one_that_breaks_lets_nobody_pass(scenario: Scenario) -> None:
    def broken() -> bool:
        raise MemoryError("too much")

    pending = NeedsVerification(Handler(), Verification(b"d", broken))
    with capture_logs() as logs:
        scenario.verifications.ask(
            pending, lambda result: scenario.told.append(("x", result)), agent="a", client=HERE
        )
        assert await scenario.settled() == [("x", False)]
    assert [entry["log_level"] for entry in logs] == ["error"]


@pytest.mark.parametrize("scenario", [1, 2, 3], indirect=True)
async def test_as_many_at_a_time_as_there_are_threads(scenario: Scenario) -> None:
    handler = Handler()
    for number in range(6):
        scenario.ask(handler, str(number))
    assert scenario.verifications.running == verification_pool.THREADS
    assert len(scenario.verifications.queue) == 6 - verification_pool.THREADS
    handler.may.set()
    await scenario.settled()
    assert len(handler.begun) == 6
    assert len(handler.threads) <= verification_pool.THREADS


async def test_agents_and_client_networks_take_turns(scenario: Scenario, busy: Handler) -> None:
    """Guesses at one agent's service delay neither other agents' logins nor other networks'."""
    order = Handler()
    order.may.set()
    for number in range(3):
        scenario.ask(order, f"guess-{number}")
    scenario.ask(order, "login", client=THERE)
    scenario.ask(order, "elsewhere", agent="b")
    busy.may.set()
    await scenario.settled()
    assert order.begun == ["guess-0", "elsewhere", "login", "guess-1", "guess-2"]


async def test_the_newest_of_a_full_network_is_dropped(scenario: Scenario, busy: Handler) -> None:
    handler = Handler()
    for number in range(MAX_WAITING_OF_NETWORK + 2):
        scenario.ask(handler, str(number))
    scenario.ask(handler, "neighbour", client=b"192.0.2.2")
    await asyncio.sleep(0)
    assert scenario.told == [(str(MAX_WAITING_OF_NETWORK + number), None) for number in range(2)]
    busy.may.set()
    handler.may.set()
    assert results(await scenario.settled())["neighbour"] is True


@pytest.mark.parametrize("client", [b"2001:db8:0:1::%x", b"::ffff:192.0.2.1"])
async def test_a_network_is_a_64_or_an_address(
    scenario: Scenario, busy: Handler, client: bytes
) -> None:
    for number in range(MAX_WAITING_OF_NETWORK + 1):
        address = client % number if b"%" in client else client
        scenario.ask(busy, str(number), client=address)
    await asyncio.sleep(0)
    assert scenario.told == [(str(MAX_WAITING_OF_NETWORK), None)]
    busy.may.set()
    await scenario.settled()


async def test_a_verification_of_two_networks_is_dropped_by_neither(
    scenario: Scenario, busy: Handler
) -> None:
    """One request loses its place and is refused; the other one is verified."""
    handler = Handler()
    for number in range(MAX_WAITING_OF_NETWORK):
        scenario.ask(handler, str(number))
    scenario.ask(handler, "shared", client=THERE, name="there")
    scenario.ask(handler, "shared", name="here")
    await asyncio.sleep(0)
    assert scenario.told == [("here", None)]
    busy.may.set()
    handler.may.set()
    assert results(await scenario.settled())["there"] is True
    assert handler.begun.count("shared") == 1


async def test_a_verification_of_two_networks_runs_once_at_the_first_turn(
    scenario: Scenario, busy: Handler
) -> None:
    handler = Handler()
    handler.may.set()
    for number in range(3):
        scenario.ask(handler, str(number))
    scenario.ask(handler, "shared", name="here")
    scenario.ask(handler, "shared", client=THERE, name="there")
    busy.may.set()
    found = results(await scenario.settled())
    assert (found["here"], found["there"]) == (True, True)
    assert handler.begun.count("shared") == 1
    assert handler.begun == ["0", "shared", "1", "2"]


async def test_one_that_nobody_waits_for_does_not_run(scenario: Scenario, busy: Handler) -> None:
    handler = Handler()
    handler.may.set()
    withdraw = [
        scenario.ask(handler, "gone", name="first"),
        scenario.ask(handler, "gone", client=THERE, name="second"),
    ]
    for each in withdraw * 2:
        each()
    assert not scenario.verifications.queue
    busy.may.set()
    assert results(await scenario.settled()) == {}
    assert handler.begun == []


async def test_one_that_somebody_waits_for_runs(scenario: Scenario, busy: Handler) -> None:
    handler = Handler()
    handler.may.set()
    withdraw = scenario.ask(handler, "x", name="gone")
    scenario.ask(handler, "x", name="of the same network")
    scenario.ask(handler, "x", client=THERE, name="of another")
    withdraw()
    busy.may.set()
    assert results(await scenario.settled()) == {"of the same network": True, "of another": True}


async def test_a_withdrawal_that_comes_late(scenario: Scenario, busy: Handler) -> None:
    """It takes no place of the same verification that was asked again."""
    handler = Handler()
    handler.may.set()
    for number in range(MAX_WAITING_OF_NETWORK):
        scenario.ask(handler, str(number), agent="full")
    withdraw = scenario.ask(handler, "x", agent="full", name="dropped")
    await asyncio.sleep(0)
    again = scenario.ask(handler, "x", agent="full", client=THERE, name="again")
    withdraw()
    busy.may.set()
    found = results(await scenario.settled())
    assert (found["dropped"], found["again"]) == (None, True)
    again()
    withdraw()


async def test_an_agent_has_its_share_and_no_more(scenario: Scenario, busy: Handler) -> None:
    handler = Handler()
    handler.may.set()
    for number in range(MAX_WAITING_OF_AGENT + 1):
        scenario.ask(handler, str(number), client=b"192.0.2.%d" % number)
    scenario.ask(handler, "other", agent="b")
    await asyncio.sleep(0)
    assert scenario.told == [(str(MAX_WAITING_OF_AGENT), None)]
    busy.may.set()
    assert results(await scenario.settled())["other"] is True
