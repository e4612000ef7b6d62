"""Tests of zerotrust.middleware.request_limits."""

import math
from typing import Any

import pytest

from tests.unit.middleware.policy_runner import request
from zerotrust.access.subject import Credential, CredentialKind, Subject, SubjectKind
from zerotrust.middleware.interface import Request
from zerotrust.middleware.request_limits import BodyLimit, UpgradeLimit

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


class Socket:
    """An upgraded connection."""

    done = False


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((), None),
        (("Content-Length: 0",), None),
        (("Content-Length: 10",), None),
        (("Content-Length: 11",), 413),
        (("Content-Length: 9223372036854775807",), 413),
        (("Transfer-Encoding: chunked",), None),
    ],
)
def test_an_announced_length_is_limited(fields: tuple[str, ...], status: int | None) -> None:
    answer = BodyLimit(10).request(request(*fields, method="POST"), 0.0)
    assert (answer and answer.status) == status
    assert answer is None or answer.code == "body_too_large"


def opens(upgrades: UpgradeLimit, client: str) -> Socket | int:
    """Return the upgraded connection of a client, or the status of the refusal."""
    asked = request(*UPGRADE, client=client)
    answer = upgrades.request(asked, 0.0)
    if answer is not None:
        assert b"Retry-After: " in answer.lines
        return answer.status
    socket = Socket()
    upgrades.opened(asked.client, socket)
    return socket


def test_concurrent_upgrades_are_limited() -> None:
    upgrades = UpgradeLimit(2, None)
    first, second = opens(upgrades, "192.0.2.1"), opens(upgrades, "192.0.2.1")
    assert isinstance(first, Socket) and isinstance(second, Socket)
    assert opens(upgrades, "192.0.2.2") == 503
    first.done = True
    assert isinstance(opens(upgrades, "192.0.2.2"), Socket)
    assert opens(upgrades, "192.0.2.2") == 503


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
    ],
)
def test_concurrent_upgrades_of_a_client_are_limited(one: str, same: str, other: str) -> None:
    upgrades = UpgradeLimit(None, 1)
    first = opens(upgrades, one)
    assert isinstance(first, Socket)
    assert opens(upgrades, same) == 429
    assert isinstance(opens(upgrades, other), Socket)
    first.done = True
    assert isinstance(opens(upgrades, same), Socket)


def test_a_client_without_address_is_not_counted_with_others() -> None:
    answer = UpgradeLimit(None, 1).request(request(*UPGRADE, client=""), 0.0)
    assert answer is not None and (answer.status, answer.code) == (400, "client_address_unreadable")
    assert UpgradeLimit(None, 1).request(request(client=""), 0.0) is None
    assert UpgradeLimit(1, None).request(request(*UPGRADE, client=""), 0.0) is None


def test_the_limit_of_the_service_comes_first() -> None:
    upgrades = UpgradeLimit(1, 1)
    opens(upgrades, "192.0.2.1")
    assert opens(upgrades, "192.0.2.1") == 503


def test_requests_without_an_upgrade_are_not_counted() -> None:
    upgrades = UpgradeLimit(1, 1)
    opens(upgrades, "192.0.2.1")
    assert upgrades.request(request(client="192.0.2.1"), 0.0) is None


def test_a_new_limit_counts_open_connections() -> None:
    before = UpgradeLimit(5, None)
    sockets: list[Any] = [opens(before, "192.0.2.1") for _ in range(3)]
    after = UpgradeLimit(None, 2, before)
    assert opens(after, "192.0.2.1") == 429
    for socket in sockets[:2]:
        socket.done = True
    assert isinstance(opens(after, "192.0.2.1"), Socket)


def test_ended_connections_do_not_count() -> None:
    upgrades = UpgradeLimit(10, None)
    for _ in range(100):
        socket = opens(upgrades, "192.0.2.1")
        assert isinstance(socket, Socket)
        socket.done = True
    assert len(upgrades.open) == 1


def asked_by(user: str | None) -> Request:
    asked = request(*UPGRADE)
    if user is not None:
        subject = Subject(kind=SubjectKind.USER, id=user)
        asked.who = Credential(
            CredentialKind.PASS, "1", digest=b"", subject=subject, ends_at=math.inf
        )
    return asked


def test_each_user_has_so_many_websockets() -> None:
    upgrades = UpgradeLimit(None, None, per_user=1)
    for user in ("anna", "ben"):
        assert upgrades.request(asked_by(user), 0.0) is None
        upgrades.opened(b"192.0.2.1", Socket(), user)
        answer = upgrades.request(asked_by(user), 0.0)
        assert answer is not None and (answer.status, answer.code) == (429, "websocket_limit")
    assert upgrades.request(asked_by(None), 0.0) is None
