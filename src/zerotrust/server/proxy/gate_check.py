"""Gate check: the first step of each request of a host name with a gate.

It comes before the look-up of the service, so strangers do not learn whether an agent is connected.
It is repeated whenever the request goes on: after it has waited, and before another agent gets it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from time import time
from typing import Final, Literal

from zerotrust.access.gate import Gate
from zerotrust.access.refusal import LOGIN_REQUIRED, Refusal, is_preflight, origin_of
from zerotrust.access.subject import Credential
from zerotrust.http.head import RequestHead
from zerotrust.middleware.header_edits import Edit, edit_lines, refusal_edits
from zerotrust.middleware.interface import Answer
from zerotrust.net.asgi import AsgiBridge
from zerotrust.net.http_server import RequestSink
from zerotrust.net.json_api import JsonApi
from zerotrust.server.access.gatekeeper import Gatekeeper
from zerotrust.server.agents.scheme import to_https
from zerotrust.server.proxy.request_context import RequestContext

ADMIN_PATHS: Final = b"/v1/"
"""Paths of the admin host that are the admin API for machines."""


class Outcome(Enum):
    """Result of a check that lets the request go on."""

    PASSED = "passed"


class GateCheck:
    """Checks requests, and answers those that may not go on.

    Args:
        gatekeeper: decides.
        ask_origin: returns the CORS header edits of a service, or its answer to a preflight.
        resume: goes on with a request that has waited.
        respond: answers a request.
        refused: counts refusals by error code.
        log_refusal: logs a refusal with its error code.
        admin_api: answers calls of machines at the admin host; None without it.

    Attributes:
        https_port: port of Caddy for https.
    """

    def __init__(  # noqa: PLR0913 - keyword arguments
        self,
        gatekeeper: Gatekeeper,
        *,
        ask_origin: Callable[[RequestHead], Answer | Sequence[Edit]],
        resume: Callable[[RequestContext], None],
        respond: Callable[[RequestContext, Answer], None],
        refused: Counter[str],
        log_refusal: Callable[[RequestContext, str], None],
        https_port: int,
        admin_api: JsonApi | None = None,
    ) -> None:
        self.gatekeeper = gatekeeper
        self._admin_api = admin_api
        self.https_port = https_port
        self._ask_origin = ask_origin
        self._resume = resume
        self._respond = respond
        self._refused = refused
        self._log_refusal = log_refusal

    def look_at(self, context: RequestContext) -> None:
        """Find the gate of a new request, and the credentials that it shows."""
        head = context.head
        context.gate = gate = self.gatekeeper.gates.find(head.fields.host)
        context.shown = shown = self.gatekeeper.shown(gate, head.fields)
        if shown.fields is not head.fields:
            context.head = RequestHead(head.method, head.target, head.minor, shown.fields)

    def look_again(self, context: RequestContext) -> None:
        """Find the gate of a request that has waited; the rules may have changed."""
        context.who, context.preflight = None, False
        gate, shown = self.gatekeeper.gates.find(context.host), context.shown
        if shown is None:
            self.look_at(context)
        elif (gate is None) == (context.gate is None):
            context.gate = gate
        else:
            # Other fields of the request are the server's now.
            head = context.head
            context.head = RequestHead(head.method, head.target, head.minor, shown.original)
            self.look_at(context)

    def check(self, context: RequestContext) -> RequestSink | Literal[Outcome.PASSED] | None:
        """Let a request of a host name with a gate go on, or answer it.

        Returns:
            `PASSED`; otherwise the request's owner from now on, None where it has been answered.

        Raises:
            ForwardError: the request is ambiguous (`access.gate.Gate.judge`).
        """
        gatekeeper, head, gate = self.gatekeeper, context.head, context.gate
        assert gate is not None
        if context.scheme == b"http":
            self._answer(context, to_https(head, self.https_port))
            return None
        serves = gatekeeper.serves(gate, head.target)
        if serves and context.record is not None:
            # Before it waits: its query may have a secret, and the client may leave.
            context.record.own_page = True
        if self._must_wait(context):
            return context.parked
        now = time()
        if serves:
            return self._hand_over(context, gate, now, gatekeeper.portal)
        if head.method == b"OPTIONS" and is_preflight(head.method, head.fields.lines):
            answer = self._ask_origin(head)
            if isinstance(answer, Answer):
                self._answer(context, answer)
                return None
            if gate.rule.preflights == "backend":
                context.preflight = True
                return Outcome.PASSED
        return self._judge(context, gate, now)

    def meets_service(self, context: RequestContext) -> bool:
        """Return True if a request that has waited still meets the service's own conditions.

        Raises:
            ForwardError: the request is ambiguous.
        """
        return self.gatekeeper.meets_service(context, time())

    def refuse(self, context: RequestContext, refusal: Refusal) -> None:
        """Answer a request that may not pass, with the CORS fields of its service."""
        lines = refusal.lines
        if origin_of(context.head.fields.lines):
            answer = self._ask_origin(context.head)
            if not isinstance(answer, Answer):
                lines = edit_lines(lines, refusal_edits(answer))
        self._refused[refusal.code] += 1
        context.fail(refusal.code, "server")
        # Strangers without a sign-in are the usual case, and would fill the log.
        if refusal.code != LOGIN_REQUIRED:
            self._log_refusal(context, refusal.code)
        self._answer(context, Answer(refusal.status, lines, refusal.body))

    def refuse_for_service(self, context: RequestContext, gate: Gate, answer: Answer) -> None:
        """Answer a request that the service's own middleware refuses.

        Where its conditions of access do, people are led to the sign-in as by a gate.
        """
        refusal = self.gatekeeper.refusal_of_service(gate, context, answer.code)
        if refusal is None:
            self._answer(context, answer)
        else:
            self.refuse(context, refusal)

    # ---- inside

    def _judge(
        self, context: RequestContext, gate: Gate, now: float
    ) -> RequestSink | Literal[Outcome.PASSED] | None:
        gatekeeper, api = self.gatekeeper, self._admin_api
        reserved = gatekeeper.gates.is_reserved(gate.host)
        if reserved and api is not None and context.head.target.startswith(ADMIN_PATHS):
            machine = gatekeeper.admin_machine(gate, context, now)
            if machine is not None:
                return self._call(context, machine, api)
        refusal = gatekeeper.judge(gate, context, now)
        if refusal is not None:
            self.refuse(context, refusal)
            return None
        if reserved:
            return self._hand_over(context, gate, now, gatekeeper.dashboard)
        return Outcome.PASSED

    def _must_wait(self, context: RequestContext) -> bool:
        """Let a request wait for the changes of other servers if it shows an unknown credential."""
        gatekeeper, shown = self.gatekeeper, context.shown
        if not gatekeeper.shared or context.caught_up or shown is None:
            return False
        if not gatekeeper.is_unknown(shown):
            return False
        context.caught_up = True
        if not gatekeeper.catch_up(partial(self._go_on, context)):
            return False
        context.park()
        return True

    def _go_on(self, context: RequestContext) -> None:
        parked = context.parked
        assert parked is not None
        if not parked.abandoned:
            self._resume(context)

    def _hand_over(
        self, context: RequestContext, gate: Gate, now: float, pages: AsgiBridge | None
    ) -> RequestSink | None:
        """Give a request to the server's own pages, with its cookies."""
        head, shown = context.head, context.shown
        if pages is None or shown is None:
            self._answer(context, Answer(404, code="not_found", message="No such page."))
            return None
        if context.record is not None:
            context.record.own_page = True
        return pages.request(
            context.connection,
            RequestHead(head.method, head.target, head.minor, shown.original),
            context.framing,
            client=context.client,
            scheme=context.scheme,
            state=self.gatekeeper.page_state(gate, context, now),
        )

    def _call(
        self, context: RequestContext, machine: Credential, api: JsonApi
    ) -> RequestSink | None:
        """Give a request to the admin API."""
        context.who = machine
        if context.record is not None:
            context.record.own_page = True
        caller = f"machine {machine.subject.name}"
        return api.request(context.connection, context.head, context.framing, caller=caller)

    def _answer(self, context: RequestContext, answer: Answer) -> None:
        context.parked = None
        self._respond(context, answer)
