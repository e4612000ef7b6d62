"""Where a request from Caddy is decided: which service it is for, whether it may pass, what is said with it."""

import asyncio
import ipaddress
import itertools
import secrets
from collections.abc import Sequence
from functools import lru_cache

import structlog

from zerotrust.errors import ForwardError, NoAgent, Overloaded, UnknownHost, UpgradeRefused
from zerotrust.http.body import Kind
from zerotrust.http.forward import request_block
from zerotrust.http.head import RequestFields, RequestHead
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.server.registry import Claim, Registry
from zerotrust.server.relay import Relay, refuse
from zerotrust.tunnel.codes import FLAG_TRAILERS, FLAG_UPGRADE
from zerotrust.tunnel.payloads import MAX_HEAD_BYTES, pack_open

_log = structlog.get_logger("ingress")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Ingress:
    """Takes each request of the proxy API (net.http_server.RequestHandler)."""

    def __init__(self, registry: Registry, *, trusted_proxies: Sequence[str]) -> None:
        self._registry = registry
        self._trusted = [ipaddress.ip_network(network) for network in trusted_proxies]
        self._loop = asyncio.get_running_loop()
        # A restart must not repeat ids that are in somebody's log.
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._is_trusted = lru_cache(maxsize=1024)(self._trusts)

    def request(
        self, connection: HttpServerConnection, head: RequestHead, framing: tuple[Kind, int]
    ) -> RequestSink | None:
        request_id = f"{self._run}-{next(self._numbers):x}"
        try:
            claim = self._route(head)
            return self._forward(connection, head, framing, claim, request_id)
        except ForwardError as error:
            _log.info("request refused", host=head.fields.host, request=request_id, code=error.code)
            refuse(connection, error, request_id=request_id, head_only=head.method == b"HEAD")
            return None

    def _route(self, head: RequestHead) -> Claim:
        host = head.fields.host
        try:
            claim = self._registry.lookup(host)
        except KeyError:
            raise UnknownHost(host) from None
        if claim is None:
            raise NoAgent(host)
        if head.fields.upgrade is not None and not claim.websocket:
            raise UpgradeRefused(host)
        return claim

    def _forward(
        self,
        connection: HttpServerConnection,
        head: RequestHead,
        framing: tuple[Kind, int],
        claim: Claim,
        request_id: str,
    ) -> Relay:
        kind, length = framing
        client, proto = self._client(connection, head.fields)
        upgrade = head.fields.upgrade is not None
        payload = pack_open(
            kind,
            length,
            flags=(FLAG_UPGRADE if upgrade else 0) | (FLAG_TRAILERS if head.fields.te_trailers else 0),
            service=claim.wire_id,
            request_id=request_id.encode(),
            block=request_block(head, client=client, proto=proto),
        )
        session = claim.member.link.session
        if not session.can_open or len(payload) > MAX_HEAD_BYTES:
            raise Overloaded(f"{len(session.streams)} streams are open")
        relay = Relay(
            connection,
            session,
            loop=self._loop,
            host=head.fields.host,
            request_id=request_id,
            head_only=head.method == b"HEAD",
            asked_upgrade=upgrade,
        )
        end = kind is Kind.NONE and not upgrade
        relay.stream = session.open_stream(payload, relay, end=end, now=self._loop.time())
        return relay

    def _client(self, connection: HttpServerConnection, fields: RequestFields) -> tuple[bytes, bytes]:
        """The client's address and scheme: what a trusted proxy says of it, else what we see ourselves."""
        peer = connection.peer_host
        if peer and not self._is_trusted(peer):
            return peer.encode(), b"http"
        said = fields.real_ip or (fields.forwarded_for or b"").rpartition(b",")[2]
        client = _address(said) or (peer or "127.0.0.1").encode()
        return client, b"http" if fields.forwarded_proto == b"http" else b"https"

    def _trusts(self, peer: str) -> bool:
        address = ipaddress.ip_address(peer)
        return any(address in network for network in self._trusted)


@lru_cache(maxsize=4096)
def _address(text: bytes) -> bytes:
    """The address in its one form; empty where it is none."""
    try:
        return str(ipaddress.ip_address(text.strip().decode("ascii"))).encode()
    except ValueError:
        return b""
