"""Status of the agent's services, for `0trust agent status` and the metrics."""

from collections.abc import Iterable, Mapping
from typing import Final

from zerotrust.agent.services import LiveService
from zerotrust.agent.upstreams import UpstreamHandle
from zerotrust.model.status import ServiceStatus, UpstreamStatus

NONE_REFUSED: Final[Mapping[str, dict[str, str]]] = {}


def services_status(
    services: Iterable[LiveService], refused: Mapping[str, dict[str, str]] = NONE_REFUSED
) -> list[ServiceStatus]:
    """Return the status of each service and its upstreams.

    Args:
        refused: host names that the server does not serve, by service id.
    """
    return [
        ServiceStatus(
            id=live.id,
            hosts=list(live.service.host_names),
            upstreams=[
                _upstream(upstream, counted=live.upstreams.only is None)
                for upstream in live.upstreams.all
            ],
            redirect_to=live.service.redirect_to,
            refused=refused.get(live.id, {}),
        )
        for live in services
    ]


def _upstream(upstream: UpstreamHandle, *, counted: bool) -> UpstreamStatus:
    if not counted:
        return UpstreamStatus(address=upstream.address, state="unchecked")
    member = upstream.member
    return UpstreamStatus(
        address=upstream.address, state=member.health.state.value, requests=member.active
    )
