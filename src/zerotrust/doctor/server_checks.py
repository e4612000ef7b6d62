"""All checks of a server."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from zerotrust.doctor import listeners
from zerotrust.doctor.acme_authority import DEFAULT, ask_authority, judge_authority
from zerotrust.doctor.caddy_setup import examine_caddy
from zerotrust.doctor.clock_offset import judge_clock
from zerotrust.doctor.member_challenges import ask_members, judge_members
from zerotrust.doctor.provider_checks import ask_provider, judge_provider, judge_rules
from zerotrust.doctor.public_hosts import Check, PublicHost, examine_hosts, now, utc_now
from zerotrust.doctor.public_names import Roots, is_private
from zerotrust.doctor.registrations import judge_facts, judge_unknown_hosts
from zerotrust.doctor.state_folder import (
    judge_descriptors,
    judge_folder,
    judge_mode,
    look_at_folder,
)
from zerotrust.doctor.tls_files import CertificateFile, examine_file, root_digests
from zerotrust.model.access import Access
from zerotrust.model.base import is_pattern, split_address
from zerotrust.model.doctor import DoctorFacts, Finding
from zerotrust.model.server import ServerConfig


def server_checks(
    config: ServerConfig, facts: DoctorFacts | None, step_timeout: float
) -> Iterator[Check]:
    roots = root_digests(config.server.ca_file)
    hosts = server_hosts(config, facts)
    yield "agents", now(_server_state(config, facts))
    yield "certificates", now(server_files(config))
    yield "folders", asyncio.to_thread(lambda: list(_server_folders(config, facts)))
    yield "Caddy", examine_caddy(config.caddy)
    yield "ports", _listeners(config, facts, hosts, roots, step_timeout)
    if facts is not None:
        yield "host names", examine_hosts(hosts, roots, outside=False, step_timeout=step_timeout)
    if _needs_acme(config, hosts):
        yield "ACME", _acme(config, step_timeout)
        if facts is not None and facts.members and config.caddy.http_port:
            yield "members", _members(facts.members, config.caddy.http_port, step_timeout)
    if config.access is not None:
        yield "access", now(judge_rules(config.access, facts))
        yield "identity providers", _providers(config.access, config, step_timeout)


def _server_state(config: ServerConfig, facts: DoctorFacts | None) -> Iterator[Finding]:
    if facts is None:
        yield Finding(
            check="server.not_running",
            level="broken",
            subject=config.admin_socket,
            what="the server does not run",
            seen=f"nothing answers at {config.admin_socket}",
            fix="start it: 0trust server run; its log says why it ended",
        )
        return
    yield from judge_facts(facts)
    yield from judge_descriptors(facts.descriptors, whose="server")
    yield from judge_clock(facts.database_ahead, whose="the database")
    for name in facts.differing:
        yield Finding(
            check="access.differs",
            level="warning",
            subject=name,
            what=f"server {name} has another section access than this one",
            seen="both use one database, so people get in at one and not at the other",
            fix="give all servers the same section; ignore this for a server that runs no more",
        )
    if config.access is not None:
        named = [host for rule in config.access.rules for host in rule.hosts]
        yield from judge_unknown_hosts(named, facts.hosts)


def server_hosts(config: ServerConfig, facts: DoctorFacts | None) -> list[PublicHost]:
    """Return the host names that the server serves now."""
    caddy = config.caddy
    served = {
        one.host: PublicHost(
            one.host, caddy.https_port if one.secured else caddy.http_port, one.secured
        )
        for one in (facts.hosts if facts is not None else ())
        if not one.refusal and not is_pattern(one.host)
    }
    if config.access is not None:
        for own in filter(None, [config.access.auth_host, config.access.admin_host]):
            served[own] = PublicHost(own, caddy.https_port)
    return list(served.values())


def server_files(config: ServerConfig) -> Iterator[Finding]:
    """Yield what is wrong with the certificates of a server."""
    server, authority, moment = config.server, config.authority, utc_now()
    name = "" if server.public_addr is None else split_address(server.public_addr)[0]
    yield from examine_file(
        CertificateFile(
            key="server.cert_file",
            path=server.cert_file,
            private_key=server.key_file,
            roots=server.ca_file,
            names=(name,) if name else (),
            renewed=authority.cert_file is not None,
            issue=f"0trust ca issue server {name or 'NAME'}",
        ),
        moment,
    )
    if authority.cert_file is not None:
        yield from examine_file(
            CertificateFile(
                key="authority.cert_file",
                path=authority.cert_file,
                private_key=authority.key_file or "",
                roots=server.ca_file,
                issue="0trust ca rotate",
            ),
            moment,
        )
    for index, one in enumerate(config.caddy.certificates):
        yield from examine_file(
            CertificateFile(
                key=f"caddy.certificates[{index}]",
                path=one.cert_file,
                private_key=one.key_file,
                issue="get it from the authority that issued it",
            ),
            moment,
        )


def _server_folders(config: ServerConfig, facts: DoctorFacts | None) -> Iterator[Finding]:
    sqlite = config.state.database.startswith("sqlite:")
    state = Path(config.state.dir)
    # Before its first start the server has no folder, and creates it.
    if state.exists() or facts is not None:
        yield from judge_folder(look_at_folder(str(state)), key="state.dir", sqlite=sqlite)
    if config.caddy.mode == "managed" and Path(config.caddy.config_dir).exists():
        facts_of = look_at_folder(config.caddy.config_dir)
        yield from judge_folder(facts_of, key="caddy.config_dir", sqlite=False)
    if config.state.url_file is not None:
        yield from judge_mode(config.state.url_file, key="state.url_file")
    if config.access is not None:
        for name, one in config.access.identity_providers.items():
            if one.client_secret_file is not None:
                key = f"access.identity_providers.{name}.client_secret_file"
                yield from judge_mode(one.client_secret_file, key=key)


async def _listeners(
    config: ServerConfig,
    facts: DoctorFacts | None,
    hosts: Sequence[PublicHost],
    roots: Roots,
    step_timeout: float,
) -> Iterable[Finding]:
    name = hosts[0].host if hosts else ""
    answers = await asyncio.gather(
        *(
            listeners.ask_listener(one, name=name, roots=roots, step_timeout=step_timeout)
            for one in listeners.listeners(config)
        )
    )
    return listeners.judge_listeners(answers, running=facts is not None)


def _needs_acme(config: ServerConfig, hosts: Iterable[PublicHost]) -> bool:
    if config.caddy.mode == "none" or config.caddy.certificates:
        return False
    return any(not is_private(one.host) for one in hosts)


async def _acme(config: ServerConfig, step_timeout: float) -> Iterable[Finding]:
    url = config.caddy.acme.ca_url or DEFAULT
    return judge_authority(await ask_authority(url, step_timeout=step_timeout))


async def _members(
    members: Sequence[str], http_port: int, step_timeout: float
) -> Iterable[Finding]:
    return judge_members(await ask_members(members, http_port, step_timeout=step_timeout))


async def _providers(
    access: Access, config: ServerConfig, step_timeout: float
) -> Iterable[Finding]:
    port = config.caddy.https_port
    origin = f"https://{access.auth_host}{'' if port == 443 else f':{port}'}"
    answers = await asyncio.gather(
        *(
            ask_provider(name, one, auth_origin=origin, step_timeout=step_timeout)
            for name, one in access.identity_providers.items()
        )
    )
    found: list[Finding] = []
    for answer in answers:
        found += judge_provider(answer)
        found += judge_clock(answer.ahead, whose=f"the identity provider {answer.name}")
    return found
