"""Tests of zerotrust.doctor.caddy_setup."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import closed_port
from tests.support.scripted_server import scripted, status
from tests.unit.caddy.fake_caddy import install
from zerotrust.caddy.render import render
from zerotrust.doctor.caddy_setup import examine_caddy, judge_external
from zerotrust.model.server import Caddy, ServerConfig

pytestmark = pytest.mark.anyio

EXTERNAL = Caddy(mode="external")
OURS = render(ServerConfig(caddy=EXTERNAL))
FOREIGN: dict[str, Any] = {"apps": {"http": {"servers": {"blog": {"listen": [":80"]}}}}}


def checks(document: dict[str, Any] | None, caddy: Caddy = EXTERNAL) -> list[tuple[str, str]]:
    return [(one.check, one.level) for one in judge_external(document, caddy)]


def test_the_configuration_of_an_external_caddy() -> None:
    assert checks(OURS) == []
    assert checks(FOREIGN) == [("caddy.foreign", "broken")]
    replacing = Caddy(mode="external", replace_existing_config=True)
    assert checks(FOREIGN, replacing) == [("caddy.unconfigured", "broken")]
    assert checks(None) == [("caddy.unconfigured", "broken")]
    bare = json.loads(json.dumps(OURS).replace("stream_close_delay", "stream_timeout"))
    assert checks(bare) == [("caddy.stream_close_delay", "warning")]


async def test_an_external_caddy_is_asked() -> None:
    body = json.dumps(OURS).encode()
    async with scripted(lambda _: status(200, body=body)) as port:
        asked = Caddy(mode="external", admin_api=f"http://127.0.0.1:{port}")
        assert await examine_caddy(asked) == []
    asked = Caddy(mode="external", admin_api=f"http://127.0.0.1:{closed_port()}")
    (finding,) = await examine_caddy(asked)
    assert (finding.check, finding.level) == ("caddy.unreachable", "broken")


async def test_the_version_of_a_managed_caddy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    managed = Caddy(binary=str(install(tmp_path)))
    assert await examine_caddy(managed) == []
    monkeypatch.setenv("FAKE_CADDY", "old")
    (finding,) = await examine_caddy(managed)
    assert (finding.check, finding.level) == ("caddy.version", "warning")
    assert "2.6.2" in finding.seen
    (finding,) = await examine_caddy(Caddy(binary=str(tmp_path / "none")))
    assert (finding.check, finding.level) == ("caddy.missing", "broken")
    assert await examine_caddy(Caddy(mode="none")) == []
