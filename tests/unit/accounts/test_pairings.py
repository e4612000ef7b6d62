"""Tests of zerotrust.accounts.pairings."""

import pytest

from zerotrust.accounts import pairings


def test_codes_have_eight_clear_letters() -> None:
    codes = {pairings.new_code() for _ in range(200)}
    assert len(codes) == 200
    assert all(pairings.is_code(code) for code in codes)
    assert not set("01ILO") & set("".join(codes))


@pytest.mark.parametrize("text", ["ABCD2345", "abcd2345", " abcd-2345 ", "ab cd 23 45"])
def test_case_and_spaces_do_not_count(text: str) -> None:
    assert pairings.is_code(text)
    assert pairings.digest_of_code(text) == pairings.digest_of_code("ABCD2345")
    assert len(pairings.digest_of_code(text)) == 32


@pytest.mark.parametrize("text", ["", "ABCD234", "ABCD23456", "ABCD2340", "ÄBCD2345", "A" * 10_000])
def test_other_texts_are_no_codes(text: str) -> None:
    assert not pairings.is_code(text)
