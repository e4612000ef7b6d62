"""Tests of zerotrust.enrollment.rate_limits."""

import pytest

from zerotrust.enrollment.rate_limits import (
    JOINS_A_MINUTE,
    RECORDS_AT_ONCE,
    RENEWALS_A_MINUTE,
    Attempts,
    RefusalLog,
)
from zerotrust.errors import TooManyAttempts

DAY = 86400.0


def test_a_network_has_so_many_attempts_in_a_minute() -> None:
    attempts = Attempts()
    for number in range(JOINS_A_MINUTE):
        attempts.admit(f"2001:db8::{number:x}", 7.0)
    with pytest.raises(TooManyAttempts, match="try again in 6 s") as caught:
        attempts.admit("2001:db8::ffff", 7.0)
    assert (caught.value.retry_after, caught.value.status) == (6, 429)
    attempts.admit("2001:db8:0:1::1", 7.0)
    attempts.admit("2001:db8::1", 13.0)


def test_strangers_who_try_for_a_day_get_one_record_a_minute_and_none_is_uncounted() -> None:
    ration = RefusalLog()
    told = [ration.take("unknown token", second) for second in range(int(DAY))]
    recorded = [left_out for left_out in told if left_out is not None]
    assert len(recorded) == pytest.approx(RECORDS_AT_ONCE + DAY / 60, abs=2)
    assert len(recorded) + sum(recorded) == pytest.approx(DAY, abs=60)
    assert max(recorded) == 59


def test_who_has_a_real_token_is_not_hidden_by_strangers() -> None:
    ration = RefusalLog()
    for _ in range(1000):
        ration.take("unknown token", 0.0)
    assert ration.take("unknown token", 0.0) is None
    assert ration.take("token 7", 0.0) == 0


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
