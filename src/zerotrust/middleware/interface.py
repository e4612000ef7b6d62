"""What a handler is given, and what it may say.

Every handler judges the request as its client sent it: the changes of handlers before it are kept aside (`Request`)
and made when all have let it pass. So no header that one of them sets for the backend can be mistaken for the client's
by the next. The one exception is the target, which each `rewrite` reads as the one before it left it.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from zerotrust.http.head import RequestHead
from zerotrust.middleware.header_edits import Edit

Counted = dict["Middleware", list[Edit]]
"""Handlers that have counted a request, with what each said in the response."""


class Request:
    """A request under examination, and the changes that are to be made to it and to its response.

    Args:
        client: the address of the client as the server knows it, never what a field of the client claims; empty where
            it is not known.
        unix_time: seconds since 1970, for tokens that say until when they are good.
        counted: what has counted it when it was examined before; nothing counts one twice.
    """

    __slots__ = ("client", "counted", "edits", "fields", "method", "response_edits", "target", "unix_time")

    def __init__(self, head: RequestHead, *, client: bytes, unix_time: float, counted: Counted | None = None) -> None:
        self.method = head.method
        self.target = head.target
        self.fields = head.fields
        self.client = client
        self.unix_time = unix_time
        self.counted: Counted = {} if counted is None else counted
        self.edits: list[Edit] = []
        self.response_edits: list[Edit] = []


class Answer(NamedTuple):
    """The end of a request at the server.

    `code` is empty where the answer is what was asked for (a redirect, a preflight); else it is what logs and
    `X-0Trust-Error` say, and `message` tells a person. `lines` are canonical field lines without framing.
    """

    status: int
    lines: bytes = b""
    body: bytes = b""
    code: str = ""
    message: str = ""


class Verification(NamedTuple):
    """A costly question of yes or no.

    Attributes:
        digest: equal for equal questions of one handler: several requests may wait for one run.
        run: answers the question; it may be called in a thread, as it shares nothing with the loop.
    """

    digest: bytes
    run: Callable[[], bool]


class Verifier(Protocol):
    """A handler that asks for verifications."""

    def verified(self, verification: Verification, result: bool | None, request: Request, now: float) -> Answer | None:
        """Decide about a request that waited for the result; None: too many wait, and the verification was dropped."""
        ...


class NeedsVerification(NamedTuple):
    """The request waits: run `verification` and hand its result to `Chain.resume`."""

    verifier: Verifier
    verification: Verification
    position: int = 0


class Middleware(Protocol):
    """One step. It is built once and sees every request, one at a time."""

    def request(self, request: Request, now: float) -> Answer | NeedsVerification | None:
        """None lets the request pass; changes go into `request`. `now` is monotonic, in seconds."""
        ...
