"""Captures of WebSockets, from the command line."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.identities import DirectoryServer, home
from tests.unit.cli.conftest import Ask
from tests.unit.middleware.policy_runner import SECRET
from zerotrust.cli.captures import line
from zerotrust.http.message_reader import WebSocketMessage
from zerotrust.model.capture_admin import CapturedMessageInfo
from zerotrust.server.agents.service_policy import compile_service_policy
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.proxy.capture import Capture, CapturedMessage

HOST = "app.example.com"
WHY = ("--reason", "nothing is shown")


@pytest.fixture(autouse=True)
def _serves(server: DirectoryServer) -> None:
    """An agent serves HOST and allows captures."""
    policy = compile_service_policy(
        {"access": {"inspection": "payload"}}, secret=SECRET, before=None
    )
    session = home(services={})
    served = ServiceRegistration(session, "app", b"app", (HOST,), True, policy)
    session.services["app"] = served
    server.registry.by_host[HOST] = [served]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let something happen each time that a command waits for messages."""

    def set_steps(*steps: Callable[[], object]) -> None:
        left = list(steps)
        monkeypatch.setattr("zerotrust.cli.captures.time.sleep", lambda _seconds: left.pop(0)())

    return set_steps


def only(server: DirectoryServer) -> Capture:
    assert server.captures is not None
    (found,) = [one for one in server.captures.all.values() if not one.over]
    return found


def add(server: DirectoryServer, payload: bytes, *, number: int | None = None) -> None:
    """Add a message to the only capture, as if the backend had sent it."""
    capture, message = only(server), WebSocketMessage(1, len(payload), payload, False, False)
    capture.count = number or capture.count + 1
    capture.messages.append(CapturedMessage(capture.count, 1_800_000_000.25, False, message))


def interrupt() -> None:
    raise KeyboardInterrupt


def test_messages_are_printed_as_they_come_until_ctrl_c(
    ask: Ask, server: DirectoryServer, meanwhile: Callable[..., None]
) -> None:
    meanwhile(
        lambda: add(server, b"hello\nworld\x1b[2J"),
        lambda: add(server, b"late", number=9),
        interrupt,
    )
    code, out, err = ask("services", "capture", HOST, *WHY)
    assert code == 130
    assert out.splitlines() == [
        "08:00:00.250 backend text   15 B  hello?world?[2J",
        "… 7 older messages are no longer kept",
        "08:00:00.250 backend text   4 B  late",
    ]
    assert err.startswith("capture ") and f"the next WebSocket of {HOST}; Ctrl-C stops it" in err
    code, out, _ = ask("audit", "list", "--action", "capture.started")
    assert code == 0 and "nothing is shown" in out
    assert "stopped by an administrator" in ask("audit", "list", "--action", "capture.ended")[1]


def test_a_capture_that_ends_says_why(
    ask: Ask, server: DirectoryServer, meanwhile: Callable[..., None]
) -> None:
    said: list[str] = []

    def stop() -> None:
        code, out, _ = ask("capture", "stop", only(server).id)
        assert code == 0
        said.extend(out.splitlines())

    meanwhile(lambda: add(server, b"hello"), stop)
    code, out, err = ask("services", "capture", HOST, *WHY, "--json", "--time", "1m")
    assert code == 0
    assert "has ended: stopped by an administrator" in err
    assert out == ""
    message, stopped = said
    assert json.loads(message)["text"] == "hello"
    assert stopped.endswith("stopped after 1 message")


def test_captures_are_listed_and_shown(
    ask: Ask, server: DirectoryServer, meanwhile: Callable[..., None]
) -> None:
    assert ask("capture", "list") == (0, "no captures\n", "")

    def look() -> None:
        code, out, _ = ask("capture", "list")
        assert code == 0
        row = out.splitlines()[-1]
        for shown in (only(server).id, "waiting", HOST, "nothing is shown", "uid "):
            assert shown in row
        (found,) = json.loads(ask("capture", "list", "--json")[1])["captures"]
        assert found["messages"] == 2
        lines = ask("capture", "show", only(server).id)[1].splitlines()
        assert [one[-5:] for one in lines] == ["hello", "world"]
        done = json.loads(ask("capture", "stop", only(server).id, "--json")[1])
        assert done["state"] == "ended"

    def add_two() -> None:
        add(server, b"hello")
        add(server, b"world")

    meanwhile(add_two, look)
    assert ask("services", "capture", HOST, *WHY)[0] == 0


def test_what_is_not_possible(ask: Ask) -> None:
    assert ask("services", "capture", HOST)[0] == 2
    assert ask("services", "capture", HOST, "--reason", " ")[0] == 2
    assert ask("services", "capture", HOST, *WHY, "--time", "1h")[0] == 2
    code, _, err = ask("services", "capture", "other.example.com", *WHY)
    assert (code, "no agent serves other.example.com" in err) == (1, True)
    code, _, err = ask("connection", "capture", "abc-1", *WHY)
    assert (code, "no open connection has the id abc-1" in err) == (1, True)
    assert ask("capture", "stop", "x")[0] == ask("capture", "show", "x")[0] == 1


def test_lines_of_all_kinds() -> None:
    about: dict[str, Any] = {
        "number": 1,
        "at": 0.0,
        "by": "client",
        "kind": "binary",
        "size": 2000,
        "text": "",
        "hex": "00ff",
        "code": None,
        "compressed": False,
        "cut": True,
    }

    def shown(**changes: Any) -> str:
        return line(CapturedMessageInfo.model_validate({**about, **changes}))

    begin = "00:00:00.000 client  "
    assert shown() == (
        f"{begin}binary 2000 B  (cut at 1 KiB)\n"
        "  0000  00 ff                                            .."
    )
    closed = shown(kind="close", hex="", code=1001, text="bye", cut=False, size=5)
    assert closed == f"{begin}close  5 B  1001  bye"
    compressed = shown(kind="text", hex="", compressed=True, cut=False)
    assert compressed == f"{begin}text   2000 B  compressed"
