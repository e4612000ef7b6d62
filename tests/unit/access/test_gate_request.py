import pytest

from tests.unit.access.credentials import request
from zerotrust.routing.match import AmbiguousPath


def test_readings_are_those_of_the_path_alone() -> None:
    asked = request("/a?b/../c")
    assert asked.readings == (b"/a",)
    assert asked.readings is asked.readings
    assert request("/%61").readings == (b"/a",)
    with pytest.raises(AmbiguousPath):
        request("/a/..").readings  # noqa: B018
