"""All checks of an agent."""

import asyncio
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from zerotrust.doctor import backend_checks
from zerotrust.doctor.clock_offset import judge_clock
from zerotrust.doctor.public_hosts import Check, PublicHost, examine_hosts, now, utc_now
from zerotrust.doctor.public_names import Roots
from zerotrust.doctor.registrations import judge_status
from zerotrust.doctor.server_address import ServerWay, ask_server, judge_way
from zerotrust.doctor.tls_files import CertificateFile, examine_file, root_digests
from zerotrust.errors import PkiError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import is_pattern
from zerotrust.model.doctor import Finding
from zerotrust.model.service import Service, ServiceTls
from zerotrust.model.status import AgentStatus
from zerotrust.net import tls as tls_contexts
from zerotrust.pki.ca_directory import load_certificate
from zerotrust.pki.identity import agent_id_of


def agent_checks(
    config: AgentConfig, status: AgentStatus | None, ways: Sequence[ServerWay], step_timeout: float
) -> Iterator[Check]:
    roots = root_digests(config.server.ca_cert)
    yield "agent", now(_agent_state(status))
    yield "certificate", now(agent_files(config))
    yield "server", _ways(config, ways, roots, step_timeout)
    yield "backends", _backends(config.services, step_timeout)
    web_port = ways[0].web_port if ways else 443
    if any(way.proxied for way in ways):
        return  # this network lets out no connections of our own
    hosts = agent_hosts(config.services, status, https_port=web_port)
    yield "host names", examine_hosts(hosts, roots, outside=True, step_timeout=step_timeout)


def _agent_state(status: AgentStatus | None) -> Iterator[Finding]:
    if status is None:
        yield Finding(
            check="agent.not_running",
            level="broken",
            subject="agent",
            what="no agent runs with this file",
            seen="its control socket does not answer",
            fix="start it: 0trust agent run; its log says why it ended",
        )
        return
    yield from judge_status(status)
    for service in status.services:
        for upstream in service.upstreams:
            if upstream.state == "unhealthy":
                yield Finding(
                    check="backend.unhealthy",
                    level="warning",
                    subject=upstream.address,
                    what=f"the health check of backend {upstream.address} of service {service.id}"
                    " fails",
                    seen="it gets no requests while others are healthy",
                    fix="see the agent's log for the reason, and health_check in its file",
                )


def agent_files(config: AgentConfig) -> Iterator[Finding]:
    """Yield what is wrong with the certificate of an agent."""
    server = config.server
    yield from examine_file(
        CertificateFile(
            key="server.cert",
            path=server.cert,
            private_key=server.key,
            roots=server.ca_cert,
            renewed=True,
            issue="0trust agent join, or 0trust ca issue agent",
        ),
        utc_now(),
    )
    try:
        named = agent_id_of(load_certificate(Path(server.cert)))
    except PkiError:
        return
    if config.declared_id not in (None, named):
        yield Finding(
            check="agent.id",
            level="broken",
            subject=server.cert,
            what=f"the certificate is that of another agent than {config.declared_id}",
            seen=f"{server.cert} names {named}",
            fix=f"write agent.id: {named}, or name the right certificate",
        )


def agent_hosts(
    services: Iterable[Service], status: AgentStatus | None, *, https_port: int
) -> list[PublicHost]:
    """Return the host names that an agent publishes now."""
    if status is None or not any(session.connected for session in status.sessions):
        return []
    refused = {host for service in status.services for host in service.refused}
    found = {
        host: PublicHost(
            host, 80 if one.listen_on == "http" else https_port, one.listen_on != "http"
        )
        for one in services
        for host in one.host_names
        if host not in refused and not is_pattern(host)
    }
    return list(found.values())


async def _ways(
    config: AgentConfig, ways: Sequence[ServerWay], roots: Roots, step_timeout: float
) -> Iterable[Finding]:
    server, found = config.server, list[Finding]()
    try:
        tls = tls_contexts.tunnel_client(
            certificate=server.cert, key=server.key, authority=server.ca_cert
        )
    except PkiError:
        return found  # the check of the files says why
    direct = [way for way in ways if not way.proxied]
    answers = await asyncio.gather(
        *(
            ask_server(way, tls=tls, roots=roots, now=time.time(), step_timeout=step_timeout)
            for way in direct
        )
    )
    for answer in answers:
        found += judge_way(answer)
        found += judge_clock(answer.ahead, whose="the server")
    return found


async def _backends(services: list[Service], step_timeout: float) -> Iterable[Finding]:
    contexts: dict[str, ssl.SSLContext] = {}
    found = []
    for service in services:
        try:
            contexts[service.service_id] = tls_contexts.backend(service.tls or ServiceTls())
        except PkiError as error:
            found.append(
                Finding(
                    check="backend.tls_files",
                    level="broken",
                    subject=service.service_id,
                    what=f"the TLS files of service {service.service_id} cannot be used",
                    seen=str(error),
                    fix="correct its section tls",
                )
            )
    for answer in await backend_checks.ask_all(services, contexts, step_timeout=step_timeout):
        found += backend_checks.judge_upstream(answer)
    return found
