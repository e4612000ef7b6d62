"""Open connections, from the command line."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.identities import DirectoryServer, home
from tests.unit.cli.conftest import Ask
from zerotrust.access.subject import Credential, CredentialKind, Subject, SubjectKind
from zerotrust.cli.connections import frames, round_trips
from zerotrust.http.head import parse_request
from zerotrust.model.traffic_admin import ConnectionInfo
from zerotrust.server.agents.session import AgentSession, ServiceRegistration
from zerotrust.server.ops.connection_admin import REASON

ANNA = Subject(kind=SubjectKind.USER, id="u_anna", name="anna")


class RunningWebSocket:
    """A WebSocket, as a session shows it."""

    over = False

    def __init__(self, session: AgentSession, number: int) -> None:
        head = parse_request(b"GET /ws?a=b HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        who = Credential(CredentialKind.TOKEN, "t", digest=b"", subject=ANNA, ends_at=float("inf"))
        self.reasons: list[str] = []
        self.context = SimpleNamespace(
            id=f"abc-{number:x}",
            host="app.example.com",
            head=head,
            client=b"203.0.113.7",
            who=who,
            record=SimpleNamespace(time=1_800_000_000.5),
            registration=ServiceRegistration(session, "app", b"app", ("app.example.com",), True),
            connection=SimpleNamespace(tunnelled=True, is_websocket=True, received=6, sent=7),
        )

    def withdraw(self, reason: str) -> None:
        self.reasons.append(reason)
        self.over = True


@pytest.fixture
def running(server: DirectoryServer) -> list[RunningWebSocket]:
    """Three WebSockets of one agent."""
    made: list[RunningWebSocket] = []
    link = SimpleNamespace(session=SimpleNamespace(keepalive=SimpleNamespace(round_trip=0.02)))
    session = home(open_requests=lambda: list(made), link=link, attached=True)
    made += [RunningWebSocket(session, number) for number in (9, 10, 11)]
    server.live.sessions.append(cast("Any", session))
    return made


def test_no_connection_is_open(ask: Ask) -> None:
    assert ask("connection", "list") == (0, "no open connections\n", "")


def test_frames_and_round_trips_are_shown() -> None:
    about: dict[str, Any] = dict.fromkeys(ConnectionInfo.model_fields)
    plain = ConnectionInfo.model_construct(**about)
    assert (frames(plain), round_trips(plain)) == ("-", "-")
    about |= {"round_trip": 0.02, "frames_received": 3, "frames_sent": 5}
    about |= {"client_round_trip": 0.0123, "backend_round_trip": 0.001}
    one = ConnectionInfo.model_construct(**about)
    assert frames(one) == "3 / 5"
    assert round_trips(one) == "link 20.0 ms, client 12.3 ms, backend 1.0 ms"


@pytest.mark.usefixtures("running")
def test_connections_are_listed(ask: Ask) -> None:
    code, out, _ = ask("connection", "list", "--limit", "2")
    assert code == 0
    head, *rows, rest = out.splitlines()
    assert head.split()[:3] == ["ID", "KIND", "URL"]
    assert [row.split()[:5] for row in rows] == [
        [f"abc-{number}", "websocket", "app.example.com/ws", "user:anna", "203.0.113.7"]
        for number in "ba"
    ]
    assert rest == "3 connections in all; go on with --before 10"
    (last,) = json.loads(ask("connection", "list", "--before", "10", "--json")[1])["connections"]
    assert (last["id"], last["since"], last["round_trip"]) == ("abc-9", 1_800_000_000, 0.02)
    assert ask("connection", "list", "--user", "ben")[1] == "no open connections\n"


def test_one_is_ended(ask: Ask, running: list[RunningWebSocket]) -> None:
    said = "connection abc-a to app.example.com of user:anna ended\n"
    assert ask("connection", "end", "abc-a") == (0, said, "")
    assert [one.reasons for one in running] == [[], [REASON], []]
    code, _, err = ask("connection", "end", "abc-a")
    assert code == 1
    assert "no open connection has the id abc-a" in err
    done = json.loads(ask("connection", "end", "abc-b", "--json")[1])
    assert done == {"id": "abc-b", "host": "app.example.com", "user": "user:anna"}


def test_a_filter_that_is_not_valid(ask: Ask) -> None:
    assert ask("connection", "list", "--limit", "5000")[0] == 2
