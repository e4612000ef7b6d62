"""Where a request from Caddy is decided: which service it is for, whether it may pass, what is said with it."""

import asyncio
import ipaddress
import re
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from time import perf_counter, time
from typing import Final

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
from zerotrust.http.body import Kind
from zerotrust.http.head import RequestFields, RequestHead
from zerotrust.http.head_block import request_block
from zerotrust.http.headers import folded
from zerotrust.middleware.answer_response import answer_reply
from zerotrust.middleware.chain import MiddlewareChain
from zerotrust.middleware.header_edits import Edit
from zerotrust.middleware.interface import Answer, NeedsVerification, Request
from zerotrust.model.limits import Limits
from zerotrust.model.server import ProxyApi
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.server.agents.registry import Registry, ServiceRegistration
from zerotrust.server.agents.scheme import to_https
from zerotrust.server.agents.service_policy import CompiledPolicy, passed_head
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.server.proxy.pending_requests import PendingRequests
from zerotrust.server.proxy.policy_time import PoliciesTooSlow, PolicyTime
from zerotrust.server.proxy.relay import Again, Relay, refuse
from zerotrust.server.proxy.retry import RetryState, may_go_on
from zerotrust.server.proxy.shaping import ShapedRelay
from zerotrust.server.proxy.trailers import TrailerFilter
from zerotrust.server.proxy.verification_pool import VerificationPool
from zerotrust.telemetry import logs
from zerotrust.tunnel.binary import MAX_OPEN_PAYLOAD_BYTES, pack_open
from zerotrust.tunnel.codes import FLAG_TRAILERS, FLAG_UPGRADE, Code

_log = logs.logger("ingress")

_THIS_MACHINE: Final = b"127.0.0.1"
"""The peer of a connection by unix socket."""
_IPV6: Final = rb"([0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z._-]{1,32})?"
_ADDRESS: Final = re.compile(rb"([0-9.]{7,15})(?::[0-9]{1,5})?|\[%b\](?::[0-9]{1,5})?|%b" % (_IPV6, _IPV6))

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Asked = tuple[HttpServerConnection, RequestHead, tuple[Kind, int], str]
"""A request: whose, its head, its framing, its id."""


class Visit:
    """A request in front of a guard: what is known of it until it is let pass or answered."""

    __slots__ = (
        "asked",
        "chain",
        "claim",
        "client",
        "connection",
        "framing",
        "guard",
        "head",
        "patient",
        "proto",
        "request_id",
        "tried",
        "waiting",
    )

    def __init__(
        self,
        connection: HttpServerConnection,
        head: RequestHead,
        framing: tuple[Kind, int],
        claim: ServiceRegistration,
        *,
        guard: CompiledPolicy,
        request_id: str,
        sender: tuple[bytes, bytes],
    ) -> None:
        self.patient = True
        self.tried: RetryState | None = None
        self.connection = connection
        self.head = head
        self.framing = framing
        self.claim = claim
        self.guard = guard
        self.request_id = request_id
        self.client, self.proto = sender
        self.chain: MiddlewareChain
        self.asked: Request
        self.waiting: Waiting | None = None


class Waiting:
    """Owns a request until a thread has answered: keeps what comes of its body, which is one read."""

    __slots__ = ("_connection", "_data", "_ended", "_paused", "_trailers", "withdraw")

    def __init__(self, connection: HttpServerConnection) -> None:
        self.withdraw: Callable[[], None] | None = None
        """Cancels the verification that the request waits for, unless others wait for it."""
        self._connection: HttpServerConnection | None = connection
        self._data = b""
        self._ended = False
        self._paused = False
        self._trailers = b""

    @property
    def alone(self) -> bool:
        """The client is gone."""
        return self._connection is None

    def body(self, data: bytes, *, end: bool) -> None:
        self._data += data
        self._ended = end
        if not end and self._connection is not None:
            self._paused = True
            self._connection.pause_reading()

    def body_trailers(self, fields: bytes) -> None:
        self._trailers = fields

    def aborted(self) -> None:
        self._connection = None
        if self.withdraw is not None:
            self.withdraw()

    def drained(self) -> None:
        """Nothing was written."""

    def hand_over(self, sink: RequestSink) -> None:
        """The request goes on with `sink`."""
        connection = self._connection
        assert connection is not None
        connection.hand_over(sink)
        if self._paused:
            connection.resume_reading()
        if self._data or self._ended:
            sink.body(self._data, end=self._ended)
        if self._trailers:
            sink.body_trailers(self._trailers)


class Ingress:
    """Takes each request of the proxy API (net.http_server.RequestHandler).

    Attributes:
        requests: how many came; `refused` and `failed`: to how many of them we gave an answer of our own, by its code,
            in place of a backend, or where the backend's did not come about.
    """

    def __init__(
        self,
        registry: Registry,
        api: ProxyApi,
        *,
        verifications: VerificationPool,
        https_port: int = 443,
        overload: LoadShedding | None = None,
    ) -> None:
        self.requests = 0
        self.refused: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._overload = overload or LoadShedding(Limits())
        self._policy_time = PolicyTime()
        self._registry = registry
        self._verifications = verifications
        self._hold = PendingRequests(registry, timeout=api.hold_timeout)
        self._failed: Again = self._go_on_elsewhere
        self.use(api, https_port=https_port)
        self._loop = asyncio.get_running_loop()
        # A restart must not repeat ids that are in somebody's log.
        self._run = secrets.token_hex(4)

    def use(self, api: ProxyApi, *, https_port: int) -> None:
        """Go by these from the next request on."""
        self._hold.timeout = api.hold_timeout
        self._https_port = https_port
        self._trailer_filter = TrailerFilter(api.pass_trailers)
        self._pass_headers = frozenset(folded(name.encode()) for name in api.pass_headers)
        self._trusted = [ipaddress.ip_network(network) for network in api.trusted_proxies]
        self._warned = False
        self._is_trusted = lru_cache(maxsize=1024)(self._trusts)

    @property
    def held(self) -> int:
        """Requests that wait for an agent."""
        return self._hold.count

    def request(
        self, connection: HttpServerConnection, head: RequestHead, framing: tuple[Kind, int]
    ) -> RequestSink | None:
        self.requests += 1
        return self._take(connection, head, framing, f"{self._run}-{self.requests:x}")

    def _take(
        self,
        connection: HttpServerConnection,
        head: RequestHead,
        framing: tuple[Kind, int],
        request_id: str,
        *,
        patient: bool = True,
        tried: RetryState | None = None,
    ) -> RequestSink | None:
        """Decide about a request; one that is `patient` waits for an agent that may be back in a moment."""
        if head.fields.spoofable and self._pass_headers:
            head = self._with_passed_headers(head)
        client, proto = self._client(connection, head.fields)
        try:
            claim = self._route(head, client, tried)
            binding = claim.schemes
            if not (binding.http if proto == b"http" else binding.https):
                if proto != b"http" or not binding.redirect:
                    raise WrongScheme(f"{head.fields.host} over {proto.decode()}")
                self._answer(connection, head, request_id, to_https(head, self._https_port))
                return None
            guard = claim.policy
            if guard is None:
                block = request_block(head, client=client, proto=proto)
                relay = self._forward(connection, head, framing, claim, request_id=request_id, block=block)
                relay.tried = tried
                return relay
            sender = (client, proto)
            visit = Visit(connection, head, framing, claim, guard=guard, request_id=request_id, sender=sender)
            visit.patient = patient
            visit.tried = tried
            return self._stop(visit)
        except ForwardError as error:
            tried = tried or RetryState()
            asked = (connection, head, framing, request_id)
            if self._is_for_another(error, head, client, tried):
                return self._take(*asked, patient=patient, tried=tried)
            if patient and isinstance(error, NoAgent):
                held = self._held(asked, tried)
                if held is not None:
                    return held
            said = self._ask_origin(head)
            if isinstance(said, Answer):
                self._answer(connection, head, request_id, said)
            else:
                self._refuse(connection, head, request_id, error, edits=said)
            return None

    def _ask_origin(self, head: RequestHead) -> Answer | Sequence[Edit]:
        """Return what the policy says to a request that is refused: who may read why, or the answer to a preflight."""
        agent, guard = self._registry.policy_of(head.fields.host)
        if guard is None:
            return ()
        begun_at = perf_counter()
        said = guard.ask_origin(head, by_route=not self._policy_time.is_over(agent, begun_at))
        self._policy_time.charge(agent, perf_counter() - begun_at, begun_at)
        return said

    def _refuse(
        self,
        connection: HttpServerConnection,
        head: RequestHead,
        request_id: str,
        error: ForwardError,
        *,
        edits: Sequence[Edit],
    ) -> None:
        self.refused[error.code] += 1
        # Of an overload the beginning and the end are told: a line each would make it worse.
        if not isinstance(error, Overloaded if self._overload.on else PoliciesTooSlow):
            _log.info("request refused", host=head.fields.host, request=request_id, code=error.code)
        refuse(connection, error, request_id=request_id, head_only=head.method == b"HEAD", edits=edits)

    def _route(self, head: RequestHead, client: bytes, tried: RetryState | None) -> ServiceRegistration:
        host = head.fields.host
        try:
            claim = self._registry.lookup(host, client)
        except KeyError:
            raise UnknownHost(host) from None
        if tried is not None and claim is not None:
            claim = self._registry.another(host, client, tried) or (None if claim in tried else claim)
        if claim is None:
            raise NoAgent(host)
        if head.fields.upgrade is not None and not claim.websocket:
            raise UpgradeRefused(host)
        if claim.sticky and not client:
            raise ClientAddressUnreadable(host)
        if self._overload.on:
            self._overload.check(claim.session.agent)
        return claim

    def _forward(
        self,
        connection: HttpServerConnection,
        head: RequestHead,
        framing: tuple[Kind, int],
        claim: ServiceRegistration,
        *,
        request_id: str,
        block: bytes,
    ) -> Relay:
        kind, length = framing
        upgrade = head.fields.upgrade is not None
        payload = pack_open(
            kind,
            length,
            flags=(FLAG_UPGRADE if upgrade else 0) | (FLAG_TRAILERS if head.fields.te_trailers else 0),
            service=claim.wire_id,
            request_id=request_id.encode(),
            block=block,
        )
        session = claim.session.link.session
        if not session.attached:
            raise NoAgent(head.fields.host)
        if len(payload) > MAX_OPEN_PAYLOAD_BYTES:
            raise HeadTooLarge(f"OPEN of {len(payload)} bytes, at most {MAX_OPEN_PAYLOAD_BYTES} allowed")
        if not session.can_open:
            raise Overloaded("its agent can take no more requests now")
        relay = Relay(
            connection,
            session,
            loop=self._loop,
            host=head.fields.host,
            request_id=request_id,
            head_only=head.method == b"HEAD",
            asked_upgrade=head.fields.upgrade,
        )
        relay.again = self._failed
        relay.claim = claim
        relay.framing = framing
        relay.failed = self.failed
        relay.trailer_filter = self._trailer_filter
        end = kind is Kind.NONE and not upgrade
        relay.stream = session.open_stream(payload, relay, end=end, now=self._loop.time())
        return relay

    # ---- those that another agent may have

    def _is_for_another(self, error: ForwardError, head: RequestHead, client: bytes, tried: RetryState) -> bool:
        """What this agent can't be given now, another one can; a server with too much to do looks for none."""
        return (
            isinstance(error, (NoAgent, Overloaded))
            and not isinstance(error, PoliciesTooSlow)
            and not (self._overload.on and isinstance(error, Overloaded))
            and tried.once_more()
            and self._registry.another(head.fields.host, client, tried) is not None
        )

    def _go_on_elsewhere(self, relay: Relay, connection: HttpServerConnection, code: Code, reason: str) -> bool:
        """Give a request that was reset to another agent, or have it wait for one; False where it has failed."""
        head = connection.head
        if head is None or not may_go_on(relay, head, code):
            return False
        tried = relay.tried or RetryState(relay.counted)
        tried.add(relay.claim, code)
        client, _ = self._client(connection, head.fields)
        asked = (connection, head, relay.framing, relay.request_id)
        sink: RequestSink | None
        if tried.once_more() and self._registry.another(relay.host, client, tried) is not None:
            sink = self._take(*asked, tried=tried)
        else:
            sink = self._held(asked, tried) if relay.unsent else None
            if sink is None:
                return False
        _log.info(
            "another agent is tried",
            host=relay.host,
            request=relay.request_id,
            agent=relay.claim.session.agent,
            code=code.name,
            reason=reason,
        )
        if sink is not None:
            connection.hand_over(sink)
            relay.hand_over(sink)
        return True

    # ---- those whose agent is away for a moment

    def _held(self, asked: Asked, tried: RetryState, waiting: Waiting | None = None) -> Waiting | None:
        """The request's owner until its agent is back, or until it is told that it is not; None where none is to be."""
        connection, head, _, _ = asked
        waiting = waiting or Waiting(connection)
        tried.forget()
        return waiting if self._hold.wait(head.fields.host, partial(self._return, asked, tried, waiting)) else None

    def _return(self, asked: Asked, tried: RetryState, waiting: Waiting, served: bool) -> None:
        # Judged anew: rules and grants may have changed meanwhile.
        if not waiting.alone:
            sink = self._take(*asked, patient=served, tried=tried)
            if sink is not None:
                waiting.hand_over(sink)

    # ---- services with a guard

    def _stop(self, visit: Visit) -> RequestSink | None:
        head = visit.head
        agent = visit.claim.session.agent
        begun_at = perf_counter()
        self._policy_time.check(agent, begun_at)
        try:
            visit.chain = visit.guard.chain(head)
            counted = visit.tried.counted if visit.tried is not None else None
            visit.asked = Request(head, client=visit.client, unix_time=time(), counted=counted)
            said = visit.chain.run(visit.asked, self._loop.time())
        finally:
            self._policy_time.charge(agent, perf_counter() - begun_at, begun_at)
        return self._go_on(visit, said)

    def _go_on(self, visit: Visit, said: Answer | NeedsVerification | None) -> RequestSink | None:
        """What the handlers said is done; the request's owner from now on, None where it was answered."""
        if isinstance(said, NeedsVerification):
            if visit.waiting is None:
                visit.waiting = Waiting(visit.connection)
            visit.waiting.withdraw = self._verifications.ask(
                said, partial(self._verified, visit, said), agent=visit.claim.session.agent, client=visit.client
            )
            return visit.waiting
        if isinstance(said, Answer):
            self._answer(visit.connection, visit.head, visit.request_id, said)
            return None
        try:
            return self._pass(visit)
        except ForwardError as error:
            tried = visit.tried or RetryState(visit.asked.counted)
            asked = (visit.connection, visit.head, visit.framing, visit.request_id)
            if self._is_for_another(error, visit.head, visit.client, tried):
                return self._take(*asked, patient=visit.patient, tried=tried)
            if visit.patient and isinstance(error, NoAgent):
                held = self._held(asked, tried, visit.waiting)
                if held is not None:
                    return held
            self._refuse(visit.connection, visit.head, visit.request_id, error, edits=visit.asked.response_edits)
            return None

    def _verified(self, visit: Visit, pending: NeedsVerification, result: bool | None) -> None:
        """Go on with a request that waited. The handler is told also where the client is gone: it may remember."""
        waiting = visit.waiting
        assert waiting is not None
        waiting.withdraw = None
        begun_at = perf_counter()
        said = visit.chain.resume(pending, result, visit.asked, self._loop.time())
        self._policy_time.charge(visit.claim.session.agent, perf_counter() - begun_at, begun_at)
        if waiting.alone:
            return
        if said is None and not self._registry.holds(visit.claim, visit.head.fields.host):
            # Rules or grants have changed meanwhile. What the handlers remember and have counted is not lost.
            asked = (visit.connection, visit.head, visit.framing, visit.request_id)
            sink = self._take(*asked, patient=visit.patient, tried=visit.tried or RetryState(visit.asked.counted))
        else:
            sink = self._go_on(visit, said)
        if sink is not None and sink is not waiting:
            waiting.hand_over(sink)

    def _answer(self, connection: HttpServerConnection, head: RequestHead, request_id: str, answer: Answer) -> None:
        if answer.code:
            self.refused[answer.code] += 1
            _log.info("request refused", host=head.fields.host, request=request_id, code=answer.code)
        close = not connection.reusable()
        head_only = head.method == b"HEAD"
        reply = answer_reply(answer, request_id=request_id, close=close, head_only=head_only)
        connection.refuse(reply, close=close)

    def _pass(self, visit: Visit) -> RequestSink:
        connection, asked, guard = visit.connection, visit.asked, visit.guard
        head = passed_head(visit.head, asked)
        block = request_block(head, client=visit.client, proto=visit.proto)
        relay = self._forward(connection, head, visit.framing, visit.claim, request_id=visit.request_id, block=block)
        relay.request_edits = asked.edits
        relay.response_edits = asked.response_edits
        relay.tried = visit.tried
        relay.counted = asked.counted
        if head.fields.upgrade is None:
            relay.body_left = guard.max_body
        elif guard.upgrades is not None:
            guard.upgrades.opened(visit.client, relay.stream)
        if guard.shaping is not None:
            return ShapedRelay(relay, connection, guard.shaping, client=visit.client, loop=self._loop)
        return relay

    # ---- who asks

    def _with_passed_headers(self, head: RequestHead) -> RequestHead:
        """The request with those of its spoofable fields that the configuration lets pass."""
        fields = head.fields
        passed = [
            line for line in fields.spoofable.splitlines(True) if line.partition(b":")[0].lower() in self._pass_headers
        ]
        fields = replace(fields, lines=fields.lines + b"".join(passed), spoofable=b"")
        return RequestHead(head.method, head.target, head.minor, fields)

    def _client(self, connection: HttpServerConnection, fields: RequestFields) -> tuple[bytes, bytes]:
        """The client's address and scheme: what a trusted proxy says of it, else what we see ourselves.

        The address is empty where the proxy says something that is none: its own would open what is open to it alone.
        """
        peer = (connection.peer_host or "").encode()
        if peer and not self._is_trusted(peer):
            return _address(peer), b"http"
        proto = b"http" if fields.forwarded_proto == b"http" else b"https"
        if fields.real_ip is None and fields.forwarded_for is None:
            return _address(peer or _THIS_MACHINE), proto
        said = fields.real_ip or (fields.forwarded_for or b"").rpartition(b",")[2]
        client = _address(said)
        if not client and not self._warned:
            self._warned = True
            _log.warning(
                "a trusted proxy does not say the client's address in a readable form",
                proxy=connection.peer_host,
                said=said[:64].decode("latin-1"),
                hint="have it set X-Real-IP to one address, or X-Forwarded-For to a list",
            )
        return client, proto

    def _trusts(self, peer: bytes) -> bool:
        client = _address(peer)
        if not client:
            return False
        address = ipaddress.ip_address(client.decode())
        return any(address in network for network in self._trusted)


@lru_cache(maxsize=4096)
def _address(text: bytes) -> bytes:
    """The address in its one form, without a port; empty where it is none.

    An IPv6 address that stands for an IPv4 one (RFC 4291 s2.5.5.2) is that one. A zone (RFC 4007 s11) is left out: it
    means something only on the machine that wrote it.
    """
    match = _ADDRESS.fullmatch(text.strip(b" \t"))
    if match is None:
        return b""
    try:
        if match[1] is not None:
            return str(ipaddress.IPv4Address(match[1].decode())).encode()
        address = ipaddress.IPv6Address((match[2] or match[3]).decode())
    except ValueError:
        return b""
    return str(address.ipv4_mapped or address).encode()
