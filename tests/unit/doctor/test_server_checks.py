"""Tests of zerotrust.doctor.server_checks: the checks that a server's file asks for."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.authorities import ForeignCertificate, now
from tests.support.inprocess_stack import StackFiles
from tests.support.ports import closed_port
from tests.support.scripted_server import scripted, status
from tests.unit.doctor.test_public_names import pong
from zerotrust.doctor.examination import findings
from zerotrust.doctor.public_hosts import PublicHost
from zerotrust.doctor.server_checks import server_files, server_hosts
from zerotrust.doctor.tls_files import root_digests
from zerotrust.model.doctor import DoctorFacts, HostFact
from zerotrust.pki import keys

pytestmark = pytest.mark.anyio


@pytest.fixture
def files(tmp_path: Path) -> StackFiles:
    return StackFiles(tmp_path)


def facts(*hosts: HostFact, **changes: Any) -> DoctorFacts:
    values = {"version": "1", "unix_time": 0, "descriptors": 1 << 20, "hosts": list(hosts)}
    return DoctorFacts.model_validate({**values, **changes})


def fact(host: str, **changes: Any) -> HostFact:
    return HostFact.model_validate({"host": host, "agent": "home", "service": "web", **changes})


ACCESS: dict[str, Any] = {"auth_host": "auth.localhost", "admin_host": "admin.localhost"}


def test_the_host_names_of_a_server(files: StackFiles) -> None:
    config = files.server(access=ACCESS, caddy={"https_port": 8444, "http_port": 81})
    known = facts(
        fact("a.localhost"),
        fact("plain.localhost", secured=False),
        fact("refused.localhost", refusal="not granted"),
        fact("*.lab.localhost"),
    )
    assert server_hosts(config, known) == [
        PublicHost("a.localhost", 8444),
        PublicHost("plain.localhost", 81, secured=False),
        PublicHost("auth.localhost", 8444),
        PublicHost("admin.localhost", 8444),
    ]
    assert server_hosts(files.server(), None) == []


def test_the_certificates_of_a_server(files: StackFiles) -> None:
    folder = files.folder
    authority = {"cert_file": f"{folder}/issuer.crt", "key_file": f"{folder}/issuer.key"}
    config = files.server(server={"public_addr": "localhost:8443"}, authority=authority)
    assert [*server_files(config)] == []
    other = files.server(server={"public_addr": "tunnel.example.com:8443"})
    (finding,) = server_files(other)
    assert (finding.check, "0trust ca issue server tunnel.example.com" in finding.fix) == (
        "tls.name",
        True,
    )


def test_certificates_of_your_own(files: StackFiles) -> None:
    old = ForeignCertificate.root().issue("app", start=now().replace(year=2000), end=now())
    (files.folder / "own.crt").write_bytes(old.pem)
    (files.folder / "own.key").write_bytes(keys.to_pem(old.key))
    (files.folder / "own.key").chmod(0o600)
    own = {"cert_file": f"{files.folder}/own.crt", "key_file": f"{files.folder}/own.key"}
    (finding,) = server_files(files.server(caddy={"certificates": [own]}))
    assert finding.check == "tls.expired"


async def checks(config: Any, known: DoctorFacts | None) -> list[str]:
    return sorted(one.check for one in await findings(config, facts=known, step_timeout=1))


async def test_agents_rules_and_limits(files: StackFiles) -> None:
    rules = [{"hosts": ["gone.localhost"], "allow": "anyone"}]
    config = files.server(access={"auth_host": "127.0.0.1.localhost", "rules": rules})
    known = facts(descriptors=512, contested=["home"], differing=["b :8443"], database_ahead=-90.0)
    found = await checks(config, known)
    for check in (
        "machine.descriptors",
        "agent.twice",
        "agent.no_service",
        "port.closed",
        "access.differs",
        "clock.offset",
    ):
        assert check in found


async def test_folders_and_secrets(files: StackFiles) -> None:
    secret = files.folder / "client.secret"
    secret.write_text("s")
    secret.chmod(0o644)
    port = closed_port()
    main = {
        "issuer": f"http://127.0.0.1:{port}",
        "client_id": "zero",
        "client_secret_file": str(secret),
    }
    access = {"auth_host": "auth.localhost", "identity_providers": {"main": main}}
    missing = {"dir": f"{files.folder}/none", "url_file": str(secret)}
    config = files.server(access=access, state=missing)
    found = await checks(config, facts())
    assert found.count("machine.file_mode") == 2
    assert "machine.folder" in found
    assert "provider.unreachable" in found
    before = await checks(config, None)
    assert "machine.folder" not in before, "the first start creates it"
    assert "server.not_running" in before


async def test_a_managed_caddy_with_its_port_and_folder(files: StackFiles) -> None:
    folder = files.folder / "caddy"
    folder.mkdir()
    roots = root_digests(f"{files.folder}/ca.crt")
    async with scripted(lambda head: pong(head, root=roots[0])) as port:
        ports = {"http_port": port, "https_port": closed_port(), "bind": ["127.0.0.1"]}
        caddy = {"mode": "managed", "config_dir": str(folder), **ports}
        found = [
            one
            for one in await findings(files.server(caddy=caddy), facts=facts(), step_timeout=1)
            if "(caddy." in one.what
        ]
    assert [(one.check, "caddy.https_port" in one.what) for one in found] == [("port.closed", True)]


async def test_names_of_the_public_need_an_acme_authority(files: StackFiles) -> None:
    caddy = {
        "mode": "external",
        "admin_api": f"http://127.0.0.1:{closed_port()}",
        "acme": {"ca_url": f"http://127.0.0.1:{closed_port()}/"},
    }
    config = files.server(caddy=caddy)
    found = await checks(config, facts(fact("app.example.invalid")))
    assert {"acme.unreachable", "caddy.unreachable", "dns.no_address"} <= {*found}
    assert "acme.unreachable" not in await checks(config, facts(fact("app.localhost")))


async def test_members_are_asked_where_names_of_the_public_are_served(files: StackFiles) -> None:
    acme = {"ca_url": f"http://127.0.0.1:{closed_port()}/"}
    caddy = {"mode": "external", "http_port": closed_port(), "acme": acme}
    config, others = files.server(caddy=caddy), {"members": ["127.0.0.1:8443"]}
    public, private = fact("app.example.invalid"), fact("app.localhost")
    assert "member.unreachable" in await checks(config, facts(public, **others))
    assert "member.unreachable" not in await checks(config, facts(public))
    assert "member.unreachable" not in await checks(config, facts(private, **others))


async def test_a_provider_whose_clock_differs(files: StackFiles) -> None:
    dated = "Date: Thu, 01 Jan 1970 00:00:00 GMT"

    def script(head: str) -> bytes:
        return status(200, dated, body=json.dumps({"issuer": issuer}).encode())

    async with scripted(script) as port:
        issuer = f"http://127.0.0.1:{port}"
        main = {"issuer": issuer, "client_id": "zero"}
        access = {"auth_host": "auth.localhost", "identity_providers": {"main": main}}
        config = files.server(access=access, caddy={"https_port": 8444})
        assert "clock.offset" in await checks(config, None)
