"""Tests of zerotrust.doctor.agent_checks: the checks that an agent's file asks for."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.inprocess_stack import StackFiles
from tests.support.ports import closed_port
from tests.support.scripted_server import OK, scripted
from tests.unit.doctor.test_public_names import pong
from tests.unit.doctor.test_server_address import local
from zerotrust.doctor.agent_checks import agent_hosts
from zerotrust.doctor.examination import findings
from zerotrust.doctor.public_hosts import PublicHost
from zerotrust.doctor.server_address import ServerWay
from zerotrust.doctor.tls_files import root_digests
from zerotrust.model.agent import AgentConfig
from zerotrust.model.service import Service
from zerotrust.model.status import AgentStatus, ServiceStatus, SessionStatus, UpstreamStatus

pytestmark = pytest.mark.anyio

SESSION = SessionStatus(id="a", server="192.0.2.1:8443", streams=0)


@pytest.fixture
def files(tmp_path: Path) -> StackFiles:
    return StackFiles(tmp_path)


def status(*services: ServiceStatus) -> AgentStatus:
    return AgentStatus(agent="home", software="1", sessions=[SESSION], services=list(services))


def service(**keys: Any) -> dict[str, Any]:
    return {"id": "web", "hostname": "app.localhost", "backend": "127.0.0.1:1", **keys}


async def checks(
    config: AgentConfig, known: AgentStatus | None = None, ways: list[ServerWay] | None = None
) -> list[str]:
    found = await findings(config, status=known or status(), ways=ways or [], step_timeout=1)
    return sorted(one.check for one in found)


def test_the_host_names_of_an_agent() -> None:
    given = [
        service(hostnames=["a.localhost", "refused.localhost", "*.lab.localhost"], hostname=None),
        service(hostname="plain.localhost", listen_on="http"),
    ]
    services = [Service.model_validate(one) for one in given]
    known = ServiceStatus(id="web", hosts=[], upstreams=[], refused={"refused.localhost": "no"})
    assert agent_hosts(services, status(known), https_port=8444) == [
        PublicHost("a.localhost", 8444),
        PublicHost("plain.localhost", 80, secured=False),
    ]
    lost = SESSION.model_copy(update={"connected": False})
    away = status(known).model_copy(update={"sessions": [lost]})
    assert agent_hosts(services, away, https_port=443) == []
    assert agent_hosts(services, None, https_port=443) == []


async def test_the_certificate_of_the_agent(files: StackFiles) -> None:
    assert await checks(files.agent()) == []
    assert await checks(files.agent(agent={"id": "office"})) == ["agent.id"]
    (files.folder / "home.crt").unlink()
    assert await checks(files.agent(), ways=[local(1)]) == ["tls.unreadable"]


async def test_the_way_to_the_server(files: StackFiles) -> None:
    assert await checks(files.agent(), ways=[local(closed_port())]) == ["server.port_closed"]
    assert await checks(files.agent(), ways=[local(closed_port(), proxied=True)]) == []


async def test_backends(files: StackFiles) -> None:
    async with scripted(lambda _: OK) as port:
        well = service(backend=f"127.0.0.1:{port}")
        down = service(id="down", backend=f"127.0.0.1:{closed_port()}")
        tls = service(id="tls", tls={"ca_file": f"{files.folder}/none.crt"})
        found = await checks(files.agent(well, down, tls), ways=[local(1, proxied=True)])
    assert found == ["backend.tls_files", "backend.unreachable"]
    unhealthy = UpstreamStatus(address="127.0.0.1:1", state="unhealthy")
    known = status(ServiceStatus(id="web", hosts=[], upstreams=[unhealthy]))
    assert await checks(files.agent(), known) == ["backend.unhealthy"]


@pytest.mark.slow
async def test_host_names_are_asked_from_outside(files: StackFiles) -> None:
    plain = service(listen_on="https", backend="127.0.0.1:1", redirect_to=None)
    asked = files.agent(plain)
    found = await checks(asked, ways=[local(closed_port(), web_port=closed_port())])
    assert {"dns.silent", "server.port_closed"} <= {*found}
    roots = root_digests(f"{files.folder}/ca.crt")
    async with scripted(lambda head: pong(head, root=roots[0])) as port:
        silent = await checks(asked, ways=[local(closed_port(), web_port=port)])
    assert "dns.no_certificate" in silent or "dns.silent" in silent
