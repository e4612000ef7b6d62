"""Tests of zerotrust.enrolment.attempts."""

import pytest

from zerotrust.enrolment.attempts import JOINS_A_MINUTE, RECORDS_A_MINUTE, RENEWALS_A_MINUTE, Attempts
from zerotrust.errors import TooManyAttempts


def test_a_network_has_so_many_attempts_in_a_minute() -> None:
    attempts = Attempts()
    for number in range(JOINS_A_MINUTE):
        assert attempts.admit(f"2001:db8::{number:x}", 7.0)
    with pytest.raises(TooManyAttempts, match="try again in 6 s") as caught:
        attempts.admit("2001:db8::ffff", 7.0)
    assert (caught.value.retry_after, caught.value.status) == (6, 429)
    assert attempts.admit("2001:db8:0:1::1", 7.0)
    assert attempts.admit("2001:db8::1", 13.0)


def test_strangers_from_everywhere_do_not_fill_the_audit_nor_keep_others_out() -> None:
    attempts = Attempts()
    worth = [attempts.admit(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 7.0) for n in range(20 * RECORDS_A_MINUTE)]
    assert sum(worth) == 10 * RECORDS_A_MINUTE
    assert not attempts.admit("203.0.113.1", 7.0)
    assert attempts.admit("203.0.113.1", 8.0)


def test_an_agent_has_so_many_renewals_in_a_minute() -> None:
    attempts = Attempts()
    for _ in range(RENEWALS_A_MINUTE):
        attempts.renewal("home", 0.0)
    with pytest.raises(TooManyAttempts):
        attempts.renewal("home", 0.0)
    attempts.renewal("work", 0.0)
    attempts.renewal("home", 2.0)


@pytest.mark.parametrize("client", ["", "unix", "é", "\udc80"])
def test_an_address_of_any_kind_is_counted(client: str) -> None:
    attempts = Attempts()
    for _ in range(JOINS_A_MINUTE):
        attempts.admit(client, 0.0)
    with pytest.raises(TooManyAttempts):
        attempts.admit(client, 0.0)
