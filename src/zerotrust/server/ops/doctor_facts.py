"""Facts about the running server for `0trust doctor` (model.doctor)."""

import time
from collections.abc import Iterator
from itertools import islice
from typing import Final

from sqlalchemy.orm import Session

from zerotrust import __version__
from zerotrust.accounts import identities, passkeys
from zerotrust.model.doctor import DoctorFacts, HostFact
from zerotrust.net.loop import descriptor_limit
from zerotrust.server.agents.session import AgentSession
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.audit import Audit
from zerotrust.server.ops.access_parts import AccessParts

MAX_HOSTS: Final = 10_000
"""Host names in one answer. The others are left out."""


async def doctor_facts(
    sessions: SessionControl, access: AccessParts | None, audit: Audit
) -> DoctorFacts:
    """Return the facts about a server.

    Args:
        access: None while the server's file has no section `access`.

    Raises:
        StateError: the database can't be used.
    """
    others = await audit.other_servers()
    facts = DoctorFacts(
        version=__version__,
        unix_time=time.time(),
        descriptors=descriptor_limit(),
        hosts=list(islice(_hosts(sessions), MAX_HOSTS)),
        contested=sessions.contested(),
        differing=[] if others is None else others.differing,
        database_ahead=None if others is None else round(others.database_ahead, 3),
    )
    if access is None:
        return facts
    section = access.state.access
    claimed = [name for name, one in section.identity_providers.items() if one.groups_claim]

    def work(session: Session, _now: int) -> tuple[int, dict[str, int]]:
        lost = passkeys.count_of_other_domains(session, section.rp_id)
        return lost, identities.without_groups(session, claimed)

    lost, groupless = await access.state.run(work)
    return facts.model_copy(update={"other_passkeys": lost, "groupless": groupless})


def _hosts(sessions: SessionControl) -> Iterator[HostFact]:
    """Yield each host name of each agent once, the refused ones too."""
    seen: set[tuple[str, str]] = set()
    for session in sorted(sessions.connected(), key=lambda one: one.rank):
        for fact in _hosts_of(session, sessions):
            if (fact.agent, fact.host) not in seen:
                seen.add((fact.agent, fact.host))
                yield fact


def _hosts_of(session: AgentSession, sessions: SessionControl) -> Iterator[HostFact]:
    trip = session.link.session.keepalive.round_trip
    for service, registration in session.services.items():
        reasons = sessions.refusals(session.agent, registration.requested)
        for host in registration.requested or registration.hosts:
            yield HostFact(
                host=host,
                agent=session.agent,
                service=service,
                refusal=reasons.get(host, ""),
                secured=registration.schemes.https,
                connected=session.attached,
                round_trip=None if trip is None else round(trip * 1000, 1),
            )
    for service, message in session.unenforced.items():
        reason = "the server cannot enforce its policy; its log says why"
        for host in message.hosts:
            yield HostFact(host=host, agent=session.agent, service=service, refusal=reason)
