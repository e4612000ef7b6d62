"""Tests of the ports that the tests' own processes get (tests.support.ports)."""

import pytest

from tests.support.ports import free_port


@pytest.mark.parametrize(("worker", "remainder"), [("gw0", 0), ("gw5", 5), ("gw7", 1)])
def test_each_worker_has_ports_of_its_own(
    monkeypatch: pytest.MonkeyPatch, worker: str, remainder: int
) -> None:
    """The last one has replaced a worker that has crashed."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "6")
    assert {free_port() % 6 for _ in range(20)} == {remainder}
