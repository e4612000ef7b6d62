"""Sets the header fields that tell a backend who makes a request, and removes spoofed ones."""

from typing import Final

from zerotrust.access.identity_headers import IdentityHeaders, without_identity_fields
from zerotrust.access.shown_credentials import without_names
from zerotrust.http.head import RequestHead
from zerotrust.server.access.backend_identity import removals
from zerotrust.server.access.gatekeeper import Gatekeeper
from zerotrust.server.proxy.request_context import RequestContext

_ASSERTION_ALONE: Final = IdentityHeaders()
"""Of services that say nothing else."""


def identify(
    context: RequestContext, head: RequestHead, gatekeeper: Gatekeeper | None
) -> tuple[RequestHead, bytes]:
    """Return the head for the backend of a request, and lines to add to it.

    The request's host name has a gate, or its service has a section `access`. The head has none of
    the fields afterwards: neither the client nor the service's policy may set them. The edits of
    the request (`context.identity`) keep them out of the trailers.

    Args:
        head: as the service's policy has changed it.
        gatekeeper: None on a server without a section `access`.
    """
    policy = context.policy
    headers = policy.identity if policy is not None else None
    headers = headers or _ASSERTION_ALONE
    if gatekeeper is not None and context.gate is not None:
        identity = gatekeeper.identity_edits(context.gate, context.who, headers)
    else:
        identity = removals(headers)
        head = without_identity_fields(head)
    context.identity = identity.edits
    fields = without_names(head.fields, headers.names)
    if fields is not head.fields:
        head = RequestHead(head.method, head.target, head.minor, fields)
    return head, identity.lines
