"""Ingress: authorizes each request from Caddy, selects an agent and forwards the request."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence
from functools import partial
from time import perf_counter, time

from zerotrust.errors import (
    ClientAddressUnreadable,
    ForwardError,
    HeadTooLarge,
    NoAgent,
    Overloaded,
    UnknownHost,
    UpgradeRefused,
    WrongScheme,
)
from zerotrust.http.acme_challenge import CHALLENGE_PREFIX
from zerotrust.http.body import Kind
from zerotrust.http.head import RequestHead
from zerotrust.http.head_block import request_block
from zerotrust.http.headers import folded
from zerotrust.http.ping import PING_LENGTH
from zerotrust.http.websocket_handshake import TUNNEL_PATH
from zerotrust.http.websocket_meter import (
    ABNORMAL,
    CONNECTION,
    WebSocketEnd,
    WebSocketMeter,
    code_label,
)
from zerotrust.middleware.answer_response import answer_reply
from zerotrust.middleware.header_edits import Edit
from zerotrust.middleware.interface import Answer, NeedsVerification, Request
from zerotrust.model.limits import Limits
from zerotrust.model.server import ProxyApi
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.net.json_api import JsonApi
from zerotrust.server.access.gatekeeper import Gatekeeper
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.scheme import to_https
from zerotrust.server.agents.service_policy import CompiledPolicy, passed_head
from zerotrust.server.agents.websocket_endpoint import WebSocketEndpoint
from zerotrust.server.proxy.captures import Captures
from zerotrust.server.proxy.challenge_relay import ChallengeRelay
from zerotrust.server.proxy.error_pages import send_error_page
from zerotrust.server.proxy.gate_check import GateCheck, Outcome
from zerotrust.server.proxy.identity_fields import identify
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.server.proxy.pending_requests import PendingRequests
from zerotrust.server.proxy.ping_reply import answer_ping
from zerotrust.server.proxy.policy_time import PoliciesTooSlow, PolicyTime
from zerotrust.server.proxy.proxy_trust import ProxyTrust
from zerotrust.server.proxy.refusal_log import RefusedRequestLog
from zerotrust.server.proxy.relay import Relay
from zerotrust.server.proxy.request_context import ParkedRequest, RequestContext
from zerotrust.server.proxy.retry import Delivery, RetryState, delivery_of
from zerotrust.server.proxy.shaping import ShapedRelay
from zerotrust.server.proxy.trailers import TrailerFilter
from zerotrust.server.proxy.upgrade_timeouts import UpgradeTimeouts
from zerotrust.server.proxy.verification_pool import VerificationPool
from zerotrust.server.proxy.websocket_relay import WebSocketRelay
from zerotrust.telemetry import logs
from zerotrust.telemetry.request_record import RequestObserver, RequestRecord
from zerotrust.telemetry.tracing import Tracer
from zerotrust.tunnel.binary import pack_open, printable
from zerotrust.tunnel.codes import FLAG_REPORT, FLAG_TRAILERS, FLAG_UPGRADE, Code

_log = logs.logger("ingress")


class Ingress:
    """Handles each request of the proxy API (net.http_server.RequestHandler).

    Args:
        pending: the requests that wait for their agent.

    Attributes:
        trust: who is believed about its clients.
        agents: accepts agents that come through Caddy.
        gate_check: the gates of host names; None where access is not configured.
        admin_api: answers calls of machines at the admin host, from the next `use_gates` on.
        captures: the captures of WebSockets; None where there can be none.
        challenges: answers ACME challenges of other members; None where there are none.
        roots: SHA-256 of the root certificates, by which a ping recognises this installation.
        edge_times: the edge says for how long it has had a request (`http.head.EDGE_TIME`).
        requests: how many requests came.
        observers: get the record of each finished request; without any, none is made.
        tracer: makes the trace context of each request; needs an observer. None without traces.
        refused, failed: requests that the server answered itself, by error code: before (`refused`)
            or after (`failed`) it had forwarded them.
        websockets_closed: ended WebSockets, by who has ended them and by their close codes.
        policy_time: CPU time that the policies of each agent have taken.
    """

    def __init__(  # noqa: PLR0913 - the parts of the proxy API
        self,
        registry: Registry,
        api: ProxyApi,
        *,
        trust: ProxyTrust,
        pending: PendingRequests,
        verifications: VerificationPool,
        agents: WebSocketEndpoint,
        https_port: int = 443,
        overload: LoadShedding | None = None,
    ) -> None:
        self.requests = 0
        self.observers: tuple[RequestObserver, ...] = ()
        self.tracer: Tracer | None = None
        self.refused: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.websockets_closed: Counter[tuple[str, str]] = Counter()
        self._overload = overload or LoadShedding(Limits())
        self.policy_time = PolicyTime()
        self.trust = trust
        self._registry = registry
        self._verifications = verifications
        self._pending = pending
        self._refusal_log = RefusedRequestLog()
        self.agents = agents
        self.gate_check: GateCheck | None = None
        self.admin_api: JsonApi | None = None
        self.captures: Captures | None = None
        self.challenges: ChallengeRelay | None = None
        self.roots: tuple[bytes, ...] = ()
        self.edge_times = False
        self._loop = asyncio.get_running_loop()
        self._upgrade_timeouts = UpgradeTimeouts(self._loop)
        # Random, because ids of an earlier process may be in logs.
        self._run = secrets.token_hex(4)
        self.reconfigure(api, https_port=https_port)

    def use_gates(self, gatekeeper: Gatekeeper | None) -> None:
        """Let a gatekeeper decide about all requests from now on; None lets all pass."""
        self.gate_check = None
        if gatekeeper is not None:
            self.gate_check = GateCheck(
                gatekeeper,
                ask_origin=self._ask_origin,
                resume=self._resume,
                respond=self.respond,
                refused=self.refused,
                log_refusal=self._log_refusal,
                https_port=self._https_port,
                admin_api=self.admin_api,
            )

    def reconfigure(self, api: ProxyApi, *, https_port: int) -> None:
        """Use these settings from the next request on."""
        self._pending.timeout = api.hold_timeout
        self._https_port = https_port
        if self.gate_check is not None:
            self.gate_check.https_port = https_port
        self._trailer_filter = TrailerFilter(api.pass_trailers)
        self._pass_headers = frozenset(folded(name.encode()) for name in api.pass_headers)

    @property
    def pending(self) -> int:
        """Number of requests that wait for their agent."""
        return self._pending.count

    def request(
        self, connection: HttpServerConnection, head: RequestHead, framing: tuple[Kind, int]
    ) -> RequestSink | None:
        self.requests += 1
        client, scheme, by_proxy = self.trust.client(connection.peer_host, head.fields)
        if head.target.startswith(TUNNEL_PATH) and self.agents.serves(head):
            return self.agents.request(connection, head, client)
        # The length is compared first, because that costs each request least.
        if len(head.target) == PING_LENGTH and answer_ping(connection, head, self.roots):
            return None
        request_id = f"{self._run}-{self.requests:x}"
        context = RequestContext(
            connection, head, framing, request_id=request_id, client=client, scheme=scheme
        )
        if self.observers:
            self._observe(context, head.edge_time if by_proxy and self.edge_times else b"")
            head = context.head
        if self.gate_check is not None:
            self.gate_check.look_at(context)
            head = context.head
        if by_proxy and head.fields.spoofable and self._pass_headers:
            context.head = self._with_passed_headers(head)
        if self.challenges is not None and head.target.startswith(CHALLENGE_PREFIX):
            return self._serve_challenge(context, self.challenges)
        return self._serve(context)

    def _observe(self, context: RequestContext, edge_time: bytes) -> None:
        """Record a request for the observers."""
        head = context.head
        record = RequestRecord(
            context.id,
            method=head.method,
            host=head.fields.host,
            target=head.target,
            time=time(),
            began_at=perf_counter(),
        )
        context.observe(record, self)
        if edge_time:
            record.edge_time = float(edge_time) / 1000
        if self.tracer is not None:
            fields = head.fields
            record.trace, lines = self.tracer.begin(fields.lines)
            if lines is not fields.lines:
                fields = fields.with_lines(lines, fields.spoofable)
                context.head = RequestHead(head.method, head.target, head.minor, fields)

    def _serve(self, context: RequestContext, *, authorized: bool = False) -> RequestSink | None:
        """Select an agent, authorize the request and forward it; try other agents where that fails.

        Args:
            authorized: the policy of the selected service has let the request pass.

        Returns:
            The request's owner from now on; None where the request has been answered.
        """
        while True:
            try:
                if context.gate is not None:
                    assert self.gate_check is not None
                    owner = self.gate_check.check(context)
                    if owner is not Outcome.PASSED:
                        return owner
                    if authorized and not self.gate_check.meets_service(context):
                        context.assign(None)
                        authorized = False
                if not authorized:
                    self._select(context)
                    decision = self._authorize(context)
                    if decision is not None:
                        return self._conclude(context, decision)
                return self._forward(context)
            except ForwardError as error:
                if not self._settle(context, error):
                    return context.parked
                authorized = False
                self._look_again(context)

    # ---- the steps of each request

    def _select(self, context: RequestContext) -> None:
        """Select the agent and its service, unless a retry has done so.

        Raises:
            UnknownHost: no service is published under the host name.
            NoAgent: its agent is not connected.
            UpgradeRefused, ClientAddressUnreadable: the service does not take the request.
            Overloaded: the server or the agent has too much to do.
        """
        fields = context.head.fields
        registration = context.registration
        if registration is None:
            try:
                registration = self._registry.lookup(fields.host, context.client)
            except KeyError:
                raise UnknownHost(fields.host) from None
            if registration is None:
                raise NoAgent(fields.host)
            context.assign(registration)
        if fields.upgrade is not None and not registration.websocket:
            raise UpgradeRefused(fields.host)
        if registration.sticky and not context.client:
            raise ClientAddressUnreadable(fields.host)
        if self._overload.on:
            self._overload.check(registration.session.agent)

    def _authorize(self, context: RequestContext) -> Answer | NeedsVerification | None:
        """Check the scheme and ask the service's policy; return its decision, None to let pass.

        Raises:
            WrongScheme: the service is not offered over the client's scheme.
            AmbiguousPath, AmbiguousQuery, PathTooLong, QueryTooLong, TooManyParameters: the
                request's route is not certain.
            PoliciesTooSlow: the agent's policies have used up their share of the server's time.
        """
        registration = context.registration
        assert registration is not None
        schemes = registration.schemes
        if not (schemes.http if context.scheme == b"http" else schemes.https):
            if context.scheme != b"http" or not schemes.redirect:
                raise WrongScheme(f"{context.host} over {context.scheme.decode()}")
            return to_https(context.head, self._https_port)
        policy = context.policy
        if policy is None:
            return None
        agent = registration.session.agent
        begun_at = perf_counter()
        self.policy_time.check(agent, begun_at)
        try:
            chain = policy.chain(context.head)
            request = Request(
                context.head,
                client=context.client,
                unix_time=time(),
                counted=context.counted,
                scheme=context.scheme,
                who=context.who,
            )
            decision = chain.run(request, self._loop.time())
        finally:
            self.policy_time.charge(agent, perf_counter() - begun_at, begun_at)
        context.chain = chain
        context.request = request
        context.counted = request.counted
        return decision

    def _forward(self, context: RequestContext) -> RequestSink:
        """Open a stream for the request; return the relay that owns both from now on.

        Raises:
            HeadTooLarge: the head has too many bytes, with the fields that were added.
            NoAgent: the agent's link is gone.
            Overloaded: the agent takes no more requests.
        """
        registration, head, request = context.registration, context.head, context.request
        assert registration is not None
        policy, added = context.policy, b""
        if request is not None:
            head = passed_head(head, request)
        if context.gate is not None or (policy is not None and policy.identity is not None):
            gates = self.gate_check
            head, added = identify(context, head, None if gates is None else gates.gatekeeper)
        record = context.record
        if record is not None and record.trace is not None:
            added += record.trace.line
        kind, length = context.framing
        fields, session = head.fields, registration.session.link.session
        payload = pack_open(
            kind,
            length,
            flags=(FLAG_UPGRADE if fields.upgrade is not None else 0)
            | (FLAG_TRAILERS if fields.te_trailers else 0)
            | (FLAG_REPORT if record is not None and session.reports else 0),
            service=registration.wire_id,
            request_id=context.id.encode(),
            block=request_block(head, client=context.client, proto=context.scheme, added=added),
        )
        if len(payload) > session.max_open:
            raise HeadTooLarge(f"OPEN of {len(payload)} bytes, at most {session.max_open} allowed")
        if not session.attached:
            raise NoAgent(fields.host)
        if not session.can_open:
            raise Overloaded("the agent can take no more requests now")
        kind_of_relay = WebSocketRelay if context.connection.is_websocket else Relay
        relay = kind_of_relay(
            context,
            session,
            payload,
            owner=self,
            loop=self._loop,
            trailer_filter=self._trailer_filter,
        )
        if record is not None:
            context.note_forwarded(record)
        return relay if policy is None else self._limited(relay, policy)

    def _limited(self, relay: Relay, policy: CompiledPolicy) -> RequestSink:
        """Return the owner of a request whose policy may limit upgrades and bandwidth."""
        context = relay.context
        if context.head.fields.upgrade is not None and policy.upgrades is not None:
            user = context.who.subject.id if context.who is not None else ""
            policy.upgrades.opened(context.client, relay.stream, user)
        if policy.shaping is None:
            return relay
        return ShapedRelay(
            relay, context.connection, policy.shaping, client=context.client, loop=self._loop
        )

    # ---- gates

    def access_ended(self, context: RequestContext) -> None:
        """Refuse a request whose client may not go on (relay.RelayOwner)."""
        refusal = None
        if self.gate_check is not None:
            refusal = self.gate_check.gatekeeper.refusal_of(context, time())
        if refusal is None or self.gate_check is None:
            context.connection.break_off()
        else:
            self.gate_check.refuse(context, refusal)

    def _look_again(self, context: RequestContext) -> None:
        """Find the gate of a request again: the rules may have changed while it waited."""
        if self.gate_check is not None:
            self.gate_check.look_again(context)
        else:
            context.gate = context.who = None

    def _resume(self, context: RequestContext) -> None:
        """Go on with a request that has waited for the changes of other servers."""
        parked = context.parked
        assert parked is not None
        self._look_again(context)
        self._unpark(context, parked, self._serve(context))

    # ---- failures

    def _settle(self, context: RequestContext, error: ForwardError) -> bool:
        """Retry, park or refuse a request that has failed, before or after it was forwarded.

        Returns:
            True where it is to be forwarded to another agent, which is `context.registration` then.
            Otherwise it is parked (`context.parked`), or answered.
        """
        if self._may_retry(context, error):
            retry = context.retry = context.retry or RetryState()
            registration = retry.next_agent(self._registry, context.host, context.client)
            if registration is not None:
                context.assign(registration)
                return True
        if self._may_wait(context, error) and self._park(context):
            return False
        context.parked = None
        if context.delivery is Delivery.NOT_FORWARDED:
            self._refuse(context, error)
        else:
            self._fail(context, error)
        return False

    def _may_retry(self, context: RequestContext, error: ForwardError) -> bool:
        if context.delivery is not Delivery.NOT_FORWARDED:
            return context.delivery is not Delivery.FINAL
        if isinstance(error, Overloaded):
            # An overloaded server does not try other agents.
            return not self._overload.on and not isinstance(error, PoliciesTooSlow)
        return isinstance(error, NoAgent)

    def _may_wait(self, context: RequestContext, error: ForwardError) -> bool:
        if not context.may_wait:
            return False
        if context.delivery is Delivery.NOT_FORWARDED:
            return isinstance(error, NoAgent)
        return context.delivery is Delivery.UNSENT

    def relay_failed(self, relay: Relay, error: ForwardError, code: Code) -> None:
        """Settle a request whose stream has ended before its answer (relay.RelayOwner)."""
        context = relay.context
        registration = context.registration
        assert registration is not None
        context.delivery = Delivery.FINAL
        if relay.replayable:
            context.delivery = delivery_of(
                context.head,
                context.framing,
                code,
                session_closed=relay.session_closed,
                unsent=relay.unsent,
            )
            context.retry = context.retry or RetryState()
            context.retry.exclude(registration, code)
        retries = self._settle(context, error)
        if not retries and context.parked is None:
            return
        _log.info(
            "retrying on another agent" if retries else "waiting for the agent",
            host=context.host,
            request=context.id,
            agent=registration.session.agent,
            code=code.name,
            reason=str(error),
        )
        if retries:
            self._look_again(context)
        sink = self._serve(context) if retries else context.parked
        if sink is not None:
            context.connection.set_sink(sink)
            relay.replay(sink)

    def _refuse(self, context: RequestContext, error: ForwardError) -> None:
        """Answer a request that was not forwarded."""
        edits = context.response_edits
        if context.request is None:
            answer = self._ask_origin(context.head)
            if isinstance(answer, Answer):
                self.respond(context, answer)
                return
            edits = answer
        self.refused[error.code] += 1
        context.fail(error.code, error.hop)
        # Load shedding logs when it begins and ends: a line for each request would make the
        # overload worse.
        if not isinstance(error, Overloaded if self._overload.on else PoliciesTooSlow):
            self._log_refusal(context, error.code)
        self._send_error_page(context, error, edits)

    def _fail(self, context: RequestContext, error: ForwardError) -> None:
        """Answer a forwarded request; break off the connection where an answer has begun."""
        self.failed[error.code] += 1
        context.fail(error.code, error.hop)
        _log.info(
            "request failed",
            host=context.host,
            request=context.id,
            code=error.code,
            hop=error.hop,
            reason=str(error),
        )
        if context.connection.responded:
            context.connection.break_off()
        else:
            self._send_error_page(context, error, context.response_edits)

    def upgraded(self, relay: Relay) -> None:
        """Apply the timeouts of the service to an upgraded connection (relay.RelayOwner)."""
        policy = relay.context.policy
        settings = policy.websocket if policy is not None else None
        if settings is not None and settings.has_timeouts:
            self._upgrade_timeouts.watch(relay, settings)

    def websocket_opened(self, relay: WebSocketRelay) -> None:
        """Begin the capture that waits for it (websocket_relay.WebSocketOwner)."""
        if self.captures is not None:
            self.captures.opened(relay)

    def websocket_closed(self, context: RequestContext, meter: WebSocketMeter) -> None:
        """Log and count a WebSocket that has ended (websocket_relay.WebSocketOwner)."""
        if self.captures is not None:
            self.captures.closed(context)
        stats = meter.stats()
        by, code, reason = stats.end or WebSocketEnd(CONNECTION, ABNORMAL, "")
        self.websockets_closed[by, code_label(code)] += 1
        _log.info(
            "websocket closed",
            host=context.host,
            request=context.id,
            by=by,
            code=code,
            reason=printable(reason) or None,
            seconds=round(stats.seconds, 3),
            client_messages=stats.client.messages,
            client_bytes=stats.client.bytes,
            backend_messages=stats.backend.messages,
            backend_bytes=stats.backend.bytes,
        )

    def _ask_origin(self, head: RequestHead) -> Answer | Sequence[Edit]:
        """Return the CORS header edits for a refusal, or the answer to a CORS preflight."""
        host = head.fields.host
        agent, policy = self._registry.policy_of(host)
        gate_check = self.gate_check
        if policy is None or (gate_check and gate_check.gatekeeper.gates.is_reserved(host)):
            return ()
        begun_at = perf_counter()
        answer = policy.ask_origin(head, by_route=not self.policy_time.is_over(agent, begun_at))
        self.policy_time.charge(agent, perf_counter() - begun_at, begun_at)
        return answer

    def respond(self, context: RequestContext, answer: Answer) -> None:
        """Answer a request."""
        connection = context.connection
        if answer.code:
            self.refused[answer.code] += 1
            context.fail(answer.code, "server")
            self._log_refusal(context, answer.code)
        close = not connection.reusable()
        head_only = context.head.method == b"HEAD"
        reply = answer_reply(answer, request_id=context.id, close=close, head_only=head_only)
        connection.reply(reply, close=close)

    def _log_refusal(self, context: RequestContext, code: str) -> None:
        self._refusal_log.refused(
            self._loop.time(), host=context.host, request=context.id, code=code
        )

    def _send_error_page(
        self, context: RequestContext, error: ForwardError, edits: Sequence[Edit]
    ) -> None:
        head_only = context.head.method == b"HEAD"
        send_error_page(
            context.connection, error, request_id=context.id, head_only=head_only, edits=edits
        )

    # ---- ACME challenges

    def _serve_challenge(
        self, context: RequestContext, challenges: ChallengeRelay
    ) -> RequestSink | None:
        """Serve a request for the answer to a challenge; any other member may have it."""
        answer = challenges.ask(context, self._challenge_answered)
        if answer is not None:
            self.respond(context, answer)
            return None
        return context.parked or self._serve(context)

    def _challenge_answered(self, context: RequestContext, answer: Answer | None) -> None:
        parked = context.parked
        assert parked is not None
        if parked.abandoned:
            return
        if answer is None:
            self._resume(context)
        else:
            self._conclude(context, answer)

    # ---- requests that wait

    def _park(self, context: RequestContext) -> bool:
        """Let a request wait for its agent; return False where it cannot."""
        if not self._pending.wait(context.host, partial(self._agent_returned, context)):
            return False
        context.park()
        if context.retry is not None:
            context.retry.forget_agents()
        return True

    def _agent_returned(self, context: RequestContext, served: bool) -> None:
        """Serve a request that has waited; without an agent (`served`) it does not wait again."""
        parked = context.parked
        assert parked is not None
        if parked.abandoned:
            return
        context.may_wait = served
        # Rules and grants may have changed, so the request is authorized anew.
        context.assign(None)
        self._look_again(context)
        self._unpark(context, parked, self._serve(context))

    def _unpark(
        self, context: RequestContext, parked: ParkedRequest, sink: RequestSink | None
    ) -> None:
        if sink is not None and sink is not parked:
            context.parked = None
            context.end_wait()
            parked.release(sink)

    def _conclude(
        self, context: RequestContext, decision: Answer | NeedsVerification
    ) -> RequestSink | None:
        """Answer a request or let it wait for a verification; return its owner."""
        if isinstance(decision, Answer):
            context.parked = None
            if decision.code and context.gate is not None and self.gate_check is not None:
                self.gate_check.refuse_for_service(context, context.gate, decision)
            else:
                self.respond(context, decision)
            return None
        registration = context.registration
        assert registration is not None
        parked = context.park()
        parked.withdraw = self._verifications.ask(
            decision,
            partial(self._verified, context, decision),
            agent=registration.session.agent,
            client=context.client,
        )
        return parked

    def _verified(
        self, context: RequestContext, pending: NeedsVerification, result: bool | None
    ) -> None:
        """Go on with the policy of a request that waited for the result of a verification."""
        parked, registration, request = context.parked, context.registration, context.request
        assert parked is not None and registration is not None
        assert request is not None and context.chain is not None
        parked.withdraw = None
        begun_at = perf_counter()
        # Also where the client is gone: the middleware remembers the result.
        decision = context.chain.resume(pending, result, request, self._loop.time())
        self.policy_time.charge(registration.session.agent, perf_counter() - begun_at, begun_at)
        if parked.abandoned:
            return
        self._look_again(context)
        if decision is not None:
            sink = self._conclude(context, decision)
        elif self._registry.is_current(registration, context.host):
            sink = self._serve(context, authorized=True)
        else:
            # Rules or grants have changed. What the middleware has counted stays counted.
            context.assign(None)
            sink = self._serve(context)
        self._unpark(context, parked, sink)

    # ---- fields of proxies

    def _with_passed_headers(self, head: RequestHead) -> RequestHead:
        """Return the head with those of its spoofable fields that the configuration lets pass."""
        fields = head.fields
        passed = [
            line
            for line in fields.spoofable.splitlines(True)
            if line.partition(b":")[0].lower() in self._pass_headers
        ]
        fields = fields.with_lines(fields.lines + b"".join(passed), b"")
        return RequestHead(head.method, head.target, head.minor, fields)
