"""Tests of zerotrust.http.websocket_pings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http.generated_frames import Clock, Frame, cuts, frames, pieces
from zerotrust.http.websocket_frames import close_frame
from zerotrust.http.websocket_meter import WebSocketMeter
from zerotrust.http.websocket_pings import ClientPings, Quiet

PREFIX = b"abcdefgh"
TEXT = Frame(0x81, b"hello", masked=True).data


class Quieted:
    """A WebSocket, and the pings to its client."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.meter = WebSocketMeter(self.clock)
        self.pings = ClientPings(PREFIX)
        assert self.look() is Quiet.BUSY

    def look(self) -> Quiet:
        return self.pings.look(self.meter)

    def ping(self) -> bytes:
        """Send a Ping; return the Pong of the client."""
        assert self.look() is Quiet.PING
        sent = self.pings.ping(self.meter)
        assert sent[:2] == b"\x89\x0c"
        return Frame(0x8A, sent[2:], masked=True).data

    def client(self, data: bytes) -> bytes:
        """Send bytes of the client; return those that pass."""
        self.meter.client.feed(data)
        return self.pings.without_pong(data) if self.pings.waiting else data


def test_a_quiet_websocket_is_pinged_at_each_look() -> None:
    quiet = Quieted()
    for _ in range(3):
        assert quiet.client(quiet.ping()) == b""
        assert not quiet.pings.waiting


def test_one_that_moves_is_not() -> None:
    quiet = Quieted()
    for _ in range(3):
        quiet.client(TEXT)
        assert quiet.look() is Quiet.BUSY
        quiet.meter.backend.feed(b"\x81\x00")
        assert quiet.look() is Quiet.BUSY
    assert quiet.look() is Quiet.PING


def test_the_round_trip_is_measured() -> None:
    quiet = Quieted()
    pong = quiet.ping()
    quiet.clock.now += 0.125
    quiet.client(pong)
    assert quiet.meter.stats().client_round_trip == 0.125


@pytest.mark.parametrize("masked", [True, False])
def test_the_pong_is_cut_out_between_frames(masked: bool) -> None:
    quiet = Quieted()
    pong = quiet.ping()
    if not masked:
        pong = b"\x8a\x0c" + PREFIX + b"\x00\x00\x00\x01"
    assert quiet.client(TEXT + pong + TEXT[:3]) == TEXT + TEXT[:3]
    assert quiet.client(TEXT[3:]) == TEXT[3:]


def test_a_client_that_says_nothing_is_dead_after_two_looks() -> None:
    quiet = Quieted()
    quiet.ping()
    assert quiet.look() is Quiet.BUSY
    assert quiet.look() is Quiet.DEAD


def test_a_client_that_says_something_else_is_alive() -> None:
    quiet = Quieted()
    quiet.ping()
    assert quiet.look() is Quiet.BUSY
    assert quiet.client(TEXT) == TEXT
    assert quiet.look() is Quiet.BUSY
    late = quiet.ping()
    assert quiet.look() is Quiet.BUSY
    assert quiet.client(late) == b""


def test_a_client_from_which_the_server_does_not_read_is_alive() -> None:
    quiet = Quieted()
    pong = quiet.ping()
    assert quiet.look() is Quiet.BUSY
    assert [quiet.pings.look(quiet.meter, is_reading=False) for _ in range(5)] == [Quiet.BUSY] * 5
    assert quiet.look() is Quiet.BUSY
    assert quiet.client(pong) == b""
    assert quiet.pings.look(quiet.meter, is_reading=False) is Quiet.BUSY
    quiet.ping()
    assert [quiet.look(), quiet.look()] == [Quiet.BUSY, Quiet.DEAD]


def test_a_late_pong_of_an_earlier_ping_is_cut_out_too() -> None:
    quiet = Quieted()
    first = quiet.ping()
    quiet.client(TEXT)
    quiet.look()
    second = quiet.ping()
    assert quiet.client(first) == b""
    assert quiet.client(TEXT + second + first + TEXT) == TEXT + first + TEXT
    assert not quiet.pings.waiting


@pytest.mark.parametrize("one_piece", [True, False])
def test_the_pongs_of_two_pings_are_both_cut_out(one_piece: bool) -> None:
    quiet = Quieted()
    first = quiet.ping()
    quiet.client(TEXT)
    quiet.look()
    second = quiet.ping()
    sent = first + TEXT + second + TEXT
    size = len(sent) if one_piece else 1
    passed = [quiet.client(sent[at : at + size]) for at in range(0, len(sent), size)]
    assert b"".join(passed) == TEXT + TEXT
    assert not quiet.pings.waiting
    assert quiet.look() is Quiet.BUSY
    quiet.ping()


def test_the_pong_of_the_last_ping_answers_those_before() -> None:
    quiet = Quieted()
    quiet.ping()
    quiet.client(TEXT)
    quiet.look()
    assert quiet.client(quiet.ping()) == b""
    assert not quiet.pings.waiting


@pytest.mark.parametrize(
    "other",
    [
        Frame(0x8A, b"not ours at", masked=True).data,
        Frame(0x8A, b"same size...", masked=True).data,
        Frame(0x82, PREFIX + b"\x00\x00\x00\x01", masked=True).data,
        Frame(0x8A, PREFIX + b"\x00\x00\x00\x02", masked=True).data,
    ],
)
def test_other_frames_pass(other: bytes) -> None:
    quiet = Quieted()
    pong = quiet.ping()
    assert quiet.client(other + pong) == other


@given(frames, frames, cuts)
def test_the_pong_alone_is_missing_however_the_bytes_are_cut(
    before: list[Frame], after: list[Frame], seed: int
) -> None:
    quiet = Quieted()
    pong = quiet.ping()
    sent = [b"".join(one.data for one in part) for part in (before, after)]
    passed = b"".join(quiet.client(piece) for piece in pieces(sent[0] + pong + sent[1], seed))
    assert passed + quiet.pings.rest() == sent[0] + sent[1]
    assert not quiet.pings.waiting


@given(frames, cuts)
def test_without_a_pong_all_passes(sent: list[Frame], seed: int) -> None:
    quiet = Quieted()
    quiet.ping()
    data = b"".join(one.data for one in sent)
    passed = b"".join(quiet.client(piece) for piece in pieces(data, seed))
    assert passed + quiet.pings.rest() == data


@given(st.lists(st.binary(max_size=40)))
def test_bytes_that_are_no_frames_pass(sent: list[bytes]) -> None:
    quiet = Quieted()
    quiet.ping()
    passed = b"".join(quiet.client(piece) for piece in sent)
    assert passed + quiet.pings.rest() == b"".join(sent)


def test_a_piece_of_a_possible_pong_is_held_back() -> None:
    quiet = Quieted()
    pong = quiet.ping()
    assert quiet.client(TEXT + pong[:9]) == TEXT
    assert quiet.pings.withheld == 9
    assert quiet.look() is Quiet.BUSY
    assert quiet.look() is Quiet.BUSY
    assert quiet.client(pong[9:] + TEXT) == TEXT
    assert quiet.pings.withheld == len(pong)


@pytest.mark.parametrize(
    ("client", "backend"),
    [
        (TEXT[:4], b""),
        (b"", b"\x81\x05he"),
        (Frame(0x88, b"", masked=True).data, b""),
        (b"", close_frame(1000)),
        (b"\x83\x00", b""),
        (b"", b"\x83\x00"),
    ],
    ids=["in a frame", "in a frame back", "closing", "closing back", "unsound", "unsound back"],
)
def test_where_frames_do_not_allow_it_there_is_no_ping(client: bytes, backend: bytes) -> None:
    quiet = Quieted()
    quiet.meter.client.feed(client)
    quiet.meter.backend.feed(backend)
    assert [quiet.look() for _ in range(3)] == [Quiet.BUSY] * 3
