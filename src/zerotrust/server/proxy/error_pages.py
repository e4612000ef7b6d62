"""Error pages: the server's own answers to requests that failed."""

from collections.abc import Sequence
from typing import Final

from zerotrust.errors import ForwardError
from zerotrust.http.error_responses import error_reply
from zerotrust.middleware.header_edits import Edit, edit_refusal
from zerotrust.net.http_server import HttpServerConnection

RETRY_AFTER: Final = 5
"""Seconds in Retry-After of a 503 whose error names no time."""

_MESSAGES: Final = {
    "unknown_host": "No service is published under this host name.",
    "upgrade_refused": "This service does not allow connection upgrades.",
    "wrong_scheme": "This service is not available over http (or https).",
    "ambiguous_path": "Ambiguous path: remove encoded or duplicate separators.",
    "ambiguous_query": "Ambiguous query: use each parameter once, in its usual spelling.",
    "path_too_long": "The path is too long.",
    "query_too_long": "The query is too long.",
    "too_many_parameters": "The request has too many parameters or cookies.",
    "client_address_unreadable": (
        "The proxy in front of this server sent no readable client address."
    ),
    "body_too_large": "The request body is too large.",
    "head_too_large": "The header fields are too large, with those that this service adds.",
    "no_agent": "The agent of this service is not connected.",
    "agent_lost": "The connection to the agent was lost during the request.",
    "service_gone": "The agent no longer serves this service.",
    "overloaded": "A limit was reached; try again in a moment.",
    "upstreams_down": "No healthy backend is available.",
    "upstreams_busy": "All backends are busy; try again in a moment.",
    "upstream_unreachable": "The backend cannot be reached.",
    "upstream_timeout": "The backend did not answer in time.",
    "upstream_failed": "The backend closed the connection or sent an invalid response.",
}
"""Texts for browsers, by error code. The log has the details, under the request's id."""


def send_error_page(
    connection: HttpServerConnection,
    error: ForwardError,
    *,
    request_id: str,
    head_only: bool,
    edits: Sequence[Edit],
) -> None:
    """Answer a request with the page for `error`, which names the hop that failed and the request.

    Args:
        edits: the service's header edits for responses; those about content are left out.
    """
    close = not connection.reusable()
    page = error_reply(
        error.status,
        code=error.code,
        hop=error.hop,
        message=_MESSAGES[error.code],
        request_id=request_id,
        close=close,
        head_only=head_only,
        retry_after=error.retry_after
        or (RETRY_AFTER if error.retryable and error.status == 503 else None),
    )
    connection.reply(edit_refusal(page, edits), close=close)
