"""docs/caddy.md: the Caddyfile that it shows is one, and says what our own configuration says."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from zerotrust.caddy.binary import locate
from zerotrust.caddy.render import render
from zerotrust.model.server import ServerConfig

DOCUMENT = Path(__file__).parents[3] / "docs" / "caddy.md"


def adapted(caddyfile: str) -> dict[str, Any]:
    done = subprocess.run(
        [locate(), "adapt", "--adapter", "caddyfile", "--config", "/dev/stdin"],
        input=caddyfile,
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def proxies(part: object) -> list[dict[str, Any]]:
    """All reverse_proxy handlers below."""
    if isinstance(part, list):
        return [found for each in part for found in proxies(each)]
    if not isinstance(part, dict):
        return []
    if part.get("handler") == "reverse_proxy":
        return [part]
    return [found for each in part.values() for found in proxies(each)]


def test_the_caddyfile_for_mode_none() -> None:
    found = re.search(r"```caddyfile\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found
    document = adapted(found[1])
    (server,) = document["apps"]["http"]["servers"].values()
    hour = 3600 * 10**9
    assert (server["read_idle_timeout"], server["write_idle_timeout"]) == (hour, hour)
    (theirs,), (ours,) = proxies(document), proxies(render(ServerConfig()))
    assert theirs["stream_close_delay"] == 24 * hour
    assert "handle_response" not in theirs
    for key in ("upstreams", "flush_interval"):
        assert theirs[key] == ours[key]
    for key in ("protocol", "compression", "keep_alive"):
        assert theirs["transport"][key] == ours["transport"][key]
