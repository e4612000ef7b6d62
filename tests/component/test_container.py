"""Tests of the container image: Dockerfile, both roles, health check."""

import asyncio
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.container import (
    DOCKERFILE,
    BuiltImage,
    Container,
    Image,
    ScriptedImage,
    find_builder,
    health_command,
    parse,
)
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.component,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("container"),
]

STEPS = parse(DOCKERFILE.read_text())


def test_the_dockerfile_is_sound() -> None:
    bases = [step.words for step in STEPS if step.instruction == "FROM"]
    assert len({words[0] for words in bases}) == 1, (
        "the virtual environment needs the Python that made it"
    )
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", bases[0][0])
    last = STEPS[max(number for number, step in enumerate(STEPS) if step.instruction == "FROM") :]
    said = {step.instruction: step.words for step in last}
    assert said["USER"] == ["1000:1000"]
    assert said["ENTRYPOINT"] == ["0trust"]
    assert said["VOLUME"] == ["/config"]
    assert health_command(STEPS)
    assert {
        words[0]
        for step in STEPS
        if step.instruction == "COPY" and (words := step.words)[0].startswith("--")
    } == {f"--from={bases[0][2]}"}


def test_the_builder_gets_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    copied = {source for step in STEPS if step.instruction == "COPY" for source in step.sources}
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="the package index has hadolint for this platform only",
)
def test_hadolint_has_no_complaint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    if builder := find_builder():
        return BuiltImage(builder)
    # The compiled package has tests of its own, and compiling takes a minute.
    return ScriptedImage(tmp_path_factory.mktemp("image"), {"ZEROTRUST_COMPILE": "0"})


async def test_both_roles_run_and_tell_their_health(image: Image, tmp_path: Path) -> None:
    public, private = (
        Container(image, "server", tmp_path / "public"),
        Container(image, "agent", tmp_path / "private"),
    )
    public.call("ca", "init", "--dir", "/config/certs")
    public.call("ca", "issue", "server", "localhost", "--dir", "/config/certs")
    (public.folder / "server.yaml").write_text(json.dumps(server_config()))
    async with public.process("server", "run", "--config", "/config/server.yaml") as server:
        await becomes(public, well=True)
        answer = public.call(
            "token",
            "create",
            "--agent",
            "home",
            "--host",
            "app.example",
            "-c",
            "/config/server.yaml",
        )
        (token,) = re.findall(r"0trust-join-\S+", answer)
        private.call("agent", "join", "-", "--dir", "/config", stdin=token)
        assert not private.is_healthy, "it does not run yet"
        async with private.process("agent", "run", "--config", "/config/agent.yaml") as agent:
            await becomes(private, well=True)
            assert await server.stop() == 0
            await becomes(private, well=False)
            assert not public.is_healthy
            assert await agent.stop() == 0


async def becomes(container: Container, *, well: bool) -> None:
    async def asked() -> bool:
        return ((await asyncio.to_thread(container.check)).returncode == 0) is well

    try:
        await eventually(asked, f"the health check {'passes' if well else 'fails'}", 60, interval=1)
    except AssertionError as error:
        raise AssertionError(
            f"{error}\n{container.check()}\n{container.log.read_text()[-3000:]}"
        ) from None


def server_config() -> dict[str, object]:
    """The README's configuration, on free ports of loopback."""
    tunnel = f"127.0.0.1:{free_port()}"
    return {
        "server": {
            "listen_addr": tunnel,
            "public_addr": tunnel.replace("127.0.0.1", "localhost"),
            "cert_file": "certs/localhost.crt",
            "key_file": "certs/localhost.key",
            "ca_file": "certs/ca.crt",
        },
        "authority": {"cert_file": "certs/issuer.crt", "key_file": "certs/issuer.key"},
        "caddy": {
            "config_dir": "caddy",
            "bind": ["127.0.0.1"],
            "http_port": free_port(),
            "https_port": free_port(),
            "permission_addr": f"127.0.0.1:{free_port()}",
        },
        "metrics": {"listen_addr": f"127.0.0.1:{free_port()}"},
    }
