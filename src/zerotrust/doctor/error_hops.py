"""Hops and fixes of the errors that 0Trust answers with (`X-0Trust-Error`)."""

from collections.abc import Mapping
from typing import Final

from zerotrust.model.doctor import HopName

_REACHED: Final = "start its agent, or see 0trust doctor on the agent's machine"
_HOPS: Final[Mapping[str, tuple[HopName, str]]] = {
    "unknown_host": (
        "agent",
        "no agent has registered this host name: add a service to the agent's file, and grant the"
        " name: 0trust grants add AGENT HOST",
    ),
    "no_agent": ("agent", _REACHED),
    "agent_lost": ("agent", _REACHED),
    "service_gone": ("agent", "the agent has just removed the service: see its file"),
    "overloaded": ("agent", "see limits in the server's file, and its metrics"),
    "upstreams_down": ("upstream", "all backends are unhealthy: see the agent's log"),
    "upstreams_busy": ("upstream", "raise max_connections, or add an upstream"),
    "upstream_unreachable": (
        "upstream",
        "start the backend, and check its address in the agent's file; 0trust doctor there says"
        " more",
    ),
    "upstream_timeout": ("upstream", "see the backend's log, or raise timeout of the service"),
    "upstream_failed": ("upstream", "the backend closed the connection or sent no HTTP"),
    "login_required": (
        "policy",
        "a sign-in is needed: open it in a browser, or show a token with --token-file",
    ),
    "access_denied": ("policy", "see 0trust access explain URL --user NAME on the server"),
    "access_unavailable": ("policy", "the server cannot read its database: see its log"),
    "origin_refused": ("policy", "add the page's origin to access.origins or cors of the service"),
    "ip_refused": ("policy", "the service's ip_allow or ip_deny refuses this client"),
    "unauthorized": ("policy", "the service asks for basic_auth or jwt of its own"),
    "rate_limited": ("policy", "wait, or raise rate and burst of rate_limit"),
    "wrong_scheme": ("policy", "use https://, or set listen_on of the service"),
    "no_route": ("policy", "no route of the service matches: see routes in the agent's file"),
    "upgrade_refused": ("policy", "the service has websocket: false: remove it"),
    "websocket_limit": ("policy", "raise max_websockets or max_websockets_per_client"),
    "keys_missing": ("policy", "the agent could not fetch the keys of jwt: see its log"),
    "auth_busy": ("policy", "too many passwords are verified at the moment: try again"),
}
_OTHER: Final = "see docs/troubleshooting.md, and the logs under the request id of the answer"


def hop_of(code: str) -> tuple[HopName, str]:
    """Return the hop that an error is from, and the thing to do."""
    return _HOPS.get(code, ("policy", _OTHER))


def status_fix(status: int) -> str:
    """Return the thing to do if a backend answers a WebSocket handshake with a status."""
    match status:
        case 0:
            return "see the logs of agent and backend"
        case 403:
            return "the backend refuses Origin or Host: set origin and host_header: upstream"
        case 400 | 426:
            return "the backend wants another path, version or subprotocol: see its log"
        case 401:
            return "the backend wants its own sign-in first"
    return "the backend does not upgrade at this path, or has no WebSockets"
