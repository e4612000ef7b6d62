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
    """A handler whose verifications are answered when the test says so."""

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


class Scene:
    """Verifications, and the results by what was asked."""

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
async def scene(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    """Has one thread, so that verifications are begun in the order of their turns."""
    monkeypatch.setattr(verification_pool, "THREADS", request.param)
    found = Scene()
    yield found
    await found.tasks.close()


@pytest.fixture
async def busy(scene: Scene) -> Handler:
    """The thread is taken until the test lets it go."""
    handler = Handler()
    scene.ask(handler, "busy", agent="busy")
    return handler


def results(told: list[tuple[str, bool | None]]) -> dict[str, bool | None]:
    return {name: result for name, result in told if name != "busy"}


@pytest.mark.parametrize("answer", [True, False])
async def test_all_who_wait_hear_of_one_run(scene: Scene, answer: bool) -> None:
    handler = Handler(answer)
    scene.ask(handler, "x", name="first")
    await asyncio.sleep(0)
    scene.ask(handler, "x", name="second", client=THERE)
    assert not scene.told
    handler.may.set()
    assert await scene.settled() == [("first", answer), ("second", answer)]
    assert handler.begun == ["x"]
    assert threading.get_ident() not in handler.threads
    scene.ask(handler, "x")
    await scene.settled()
    assert handler.begun == ["x", "x"]


async def test_the_same_digest_of_another_handler_is_another_verification(scene: Scene) -> None:
    right, wrong = Handler(True), Handler(False)
    right.may.set()
    wrong.may.set()
    scene.ask(right, "x", name="right")
    scene.ask(wrong, "x", name="wrong")
    assert dict(await scene.settled()) == {"right": True, "wrong": False}


async def test_one_that_breaks_lets_nobody_pass(scene: Scene) -> None:
    def broken() -> bool:
        raise MemoryError("too much")

    pending = NeedsVerification(Handler(), Verification(b"d", broken))
    with capture_logs() as logs:
        scene.verifications.ask(
            pending, lambda result: scene.told.append(("x", result)), agent="a", client=HERE
        )
        assert await scene.settled() == [("x", False)]
    assert [entry["log_level"] for entry in logs] == ["error"]


@pytest.mark.parametrize("scene", [1, 2, 3], indirect=True)
async def test_as_many_at_a_time_as_there_are_threads(scene: Scene) -> None:
    handler = Handler()
    for number in range(6):
        scene.ask(handler, str(number))
    assert scene.verifications.running == verification_pool.THREADS
    assert len(scene.verifications.queue) == 6 - verification_pool.THREADS
    handler.may.set()
    await scene.settled()
    assert len(handler.begun) == 6
    assert len(handler.threads) <= verification_pool.THREADS


async def test_agents_and_client_networks_take_turns(scene: Scene, busy: Handler) -> None:
    """However many guesses one agent's service gets: another agent's login is next, and so is
    another network's."""
    order = Handler()
    order.may.set()
    for number in range(3):
        scene.ask(order, f"guess-{number}")
    scene.ask(order, "login", client=THERE)
    scene.ask(order, "elsewhere", agent="b")
    busy.may.set()
    await scene.settled()
    assert order.begun == ["guess-0", "elsewhere", "login", "guess-1", "guess-2"]


async def test_the_newest_of_a_full_network_is_dropped(scene: Scene, busy: Handler) -> None:
    handler = Handler()
    for number in range(MAX_WAITING_OF_NETWORK + 2):
        scene.ask(handler, str(number))
    scene.ask(handler, "neighbour", client=b"192.0.2.2")
    await asyncio.sleep(0)
    assert scene.told == [(str(MAX_WAITING_OF_NETWORK + number), None) for number in range(2)]
    busy.may.set()
    handler.may.set()
    assert results(await scene.settled())["neighbour"] is True


@pytest.mark.parametrize("client", [b"2001:db8:0:1::%x", b"::ffff:192.0.2.1"])
async def test_a_network_is_a_64_or_an_address(scene: Scene, busy: Handler, client: bytes) -> None:
    for number in range(MAX_WAITING_OF_NETWORK + 1):
        address = client % number if b"%" in client else client
        scene.ask(busy, str(number), client=address)
    await asyncio.sleep(0)
    assert scene.told == [(str(MAX_WAITING_OF_NETWORK), None)]
    busy.may.set()
    await scene.settled()


async def test_a_verification_of_two_networks_is_dropped_by_neither(
    scene: Scene, busy: Handler
) -> None:
    """One loses its place for it: its request is told so, and the other's is verified."""
    handler = Handler()
    for number in range(MAX_WAITING_OF_NETWORK):
        scene.ask(handler, str(number))
    scene.ask(handler, "shared", client=THERE, name="there")
    scene.ask(handler, "shared", name="here")
    await asyncio.sleep(0)
    assert scene.told == [("here", None)]
    busy.may.set()
    handler.may.set()
    assert results(await scene.settled())["there"] is True
    assert handler.begun.count("shared") == 1


async def test_a_verification_of_two_networks_runs_once_at_the_first_turn(
    scene: Scene, busy: Handler
) -> None:
    handler = Handler()
    handler.may.set()
    for number in range(3):
        scene.ask(handler, str(number))
    scene.ask(handler, "shared", name="here")
    scene.ask(handler, "shared", client=THERE, name="there")
    busy.may.set()
    found = results(await scene.settled())
    assert (found["here"], found["there"]) == (True, True)
    assert handler.begun.count("shared") == 1
    assert handler.begun == ["0", "shared", "1", "2"]


async def test_one_that_nobody_waits_for_does_not_run(scene: Scene, busy: Handler) -> None:
    handler = Handler()
    handler.may.set()
    withdraw = [
        scene.ask(handler, "gone", name="first"),
        scene.ask(handler, "gone", client=THERE, name="second"),
    ]
    for each in withdraw * 2:
        each()
    assert not scene.verifications.queue
    busy.may.set()
    assert results(await scene.settled()) == {}
    assert handler.begun == []


async def test_one_that_somebody_waits_for_runs(scene: Scene, busy: Handler) -> None:
    handler = Handler()
    handler.may.set()
    withdraw = scene.ask(handler, "x", name="gone")
    scene.ask(handler, "x", name="of the same network")
    scene.ask(handler, "x", client=THERE, name="of another")
    withdraw()
    busy.may.set()
    assert results(await scene.settled()) == {"of the same network": True, "of another": True}


async def test_a_withdrawal_that_comes_late(scene: Scene, busy: Handler) -> None:
    """It takes no place of the same verification that was asked again."""
    handler = Handler()
    handler.may.set()
    for number in range(MAX_WAITING_OF_NETWORK):
        scene.ask(handler, str(number), agent="full")
    withdraw = scene.ask(handler, "x", agent="full", name="dropped")
    await asyncio.sleep(0)
    again = scene.ask(handler, "x", agent="full", client=THERE, name="again")
    withdraw()
    busy.may.set()
    found = results(await scene.settled())
    assert (found["dropped"], found["again"]) == (None, True)
    again()
    withdraw()


async def test_an_agent_has_its_share_and_no_more(scene: Scene, busy: Handler) -> None:
    handler = Handler()
    handler.may.set()
    for number in range(MAX_WAITING_OF_AGENT + 1):
        scene.ask(handler, str(number), client=b"192.0.2.%d" % number)
    scene.ask(handler, "other", agent="b")
    await asyncio.sleep(0)
    assert scene.told == [(str(MAX_WAITING_OF_AGENT), None)]
    busy.may.set()
    assert results(await scene.settled())["other"] is True
