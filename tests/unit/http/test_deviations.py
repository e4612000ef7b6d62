"""Tests of zerotrust.http.deviations."""

import pytest

from zerotrust.http.deviations import Deviation


@pytest.mark.parametrize("deviation", Deviation)
def test_each_deviation_has_a_fault_and_a_fix(deviation: Deviation) -> None:
    assert deviation.fault and deviation.fix
    assert deviation.fault != deviation.fix
