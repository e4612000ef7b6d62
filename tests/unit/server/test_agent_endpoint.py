"""Tests of zerotrust.server.agent_endpoint."""

import asyncio
from pathlib import Path

import pytest

from tests.support.inprocess_stack import StackFiles, serving
from zerotrust.server import agent_endpoint
from zerotrust.server.ops.certificate_maintenance import CertificateMaintenance

pytestmark = pytest.mark.anyio


async def test_upkeep_goes_on_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    twice = asyncio.Event()

    def fail(*_: object) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            twice.set()
        raise RuntimeError("no")

    monkeypatch.setattr(CertificateMaintenance, "tick", fail)
    monkeypatch.setattr(agent_endpoint, "TICK", 0.001)
    async with serving(StackFiles(tmp_path)), asyncio.timeout(10):
        await twice.wait()
