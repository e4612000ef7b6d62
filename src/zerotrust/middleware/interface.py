"""Interface of the handlers (middleware).

Every handler sees the request as the client sent it. Changes are collected in `Request` and applied
after all handlers passed the request, so a handler cannot mistake a header set by another one for
the client's. The only exception is the target: each `rewrite` sees the result of the one before it.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from zerotrust.access.conditions import CompiledCondition
from zerotrust.access.gate_request import GateRequest
from zerotrust.access.subject import Credential
from zerotrust.http.head import RequestHead
from zerotrust.middleware.header_edits import Edit

Counted = dict["Middleware", list[Edit]]
"""Handlers that have counted a request, and the response edits of each."""


class Requirement(NamedTuple):
    """Conditions about the one who makes a request. They must hold as long as the request runs."""

    conditions: tuple[CompiledCondition, ...]
    asked: GateRequest


class Request:
    """A request for the handlers, and the changes to it and to its response.

    Args:
        client: the client's address as the server knows it, never from an untrusted header; empty
            if unknown.
        unix_time: seconds since 1970, to check the expiry of tokens.
        counted: handlers that counted the request when it ran through a chain before; they do not
            count it again.
        scheme: `http` or `https`, as the client used it.
        who: the credential with which the request has passed the server's rules; None without one.

    Attributes:
        required: the conditions that it has met.
    """

    __slots__ = (
        "client",
        "counted",
        "edits",
        "fields",
        "method",
        "required",
        "response_edits",
        "scheme",
        "target",
        "unix_time",
        "who",
    )

    def __init__(
        self,
        head: RequestHead,
        *,
        client: bytes,
        unix_time: float,
        counted: Counted | None = None,
        scheme: bytes = b"https",
        who: Credential | None = None,
    ) -> None:
        self.method = head.method
        self.target = head.target
        self.fields = head.fields
        self.client = client
        self.unix_time = unix_time
        self.scheme = scheme
        self.who = who
        self.counted: Counted = {} if counted is None else counted
        self.edits: list[Edit] = []
        self.response_edits: list[Edit] = []
        self.required: tuple[Requirement, ...] = ()


class Answer(NamedTuple):
    """A response from the server itself.

    `code` is empty for a regular response (a redirect, a preflight). For a refusal, `code` is for
    logs and for `X-0Trust-Error`, and `message` is for people. `lines` are header lines in
    canonical form, without framing.
    """

    status: int
    lines: bytes = b""
    body: bytes = b""
    code: str = ""
    message: str = ""


class Verification(NamedTuple):
    """A costly check with the result true or false.

    Attributes:
        digest: equal for equal checks of one handler, so that several requests can share one run.
        run: performs the check. It may run in a thread, because it uses no shared state.
    """

    digest: bytes
    run: Callable[[], bool]


class Verifier(Protocol):
    """A handler that needs verifications."""

    def verified(
        self, verification: Verification, result: bool | None, request: Request, now: float
    ) -> Answer | None:
        """Return the answer for a request after its verification, or None to pass it.

        `result` is None if too many verifications wait and this one was dropped.
        """
        ...


class NeedsVerification(NamedTuple):
    """Result of a handler that waits: run `verification`, then call `MiddlewareChain.resume`."""

    verifier: Verifier
    verification: Verification
    position: int = 0


class Middleware(Protocol):
    """A handler. It is built once and gets every request, one at a time."""

    def request(self, request: Request, now: float) -> Answer | NeedsVerification | None:
        """Return an answer, a verification, or None to pass the request.

        Changes are added to `request`. `now` is monotonic, in seconds.
        """
        ...
