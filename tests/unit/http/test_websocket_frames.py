"""Tests of zerotrust.http.websocket_frames."""

import pytest

from zerotrust.http.websocket_frames import close_frame, ping_frame


@pytest.mark.parametrize("reason", ["", "service restart", "x" * 500, "naïve"])
def test_a_close_frame_is_a_small_control_frame(reason: str) -> None:
    made = close_frame(1012, reason)
    assert made[0] == 0x88
    assert made[1] == len(made) - 2 <= 125
    assert int.from_bytes(made[2:4], "big") == 1012
    made[4:].decode("ascii")


def test_a_ping_is_a_control_frame() -> None:
    assert ping_frame(b"ab") == b"\x89\x02ab"
