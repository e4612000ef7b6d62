"""How an agent gets its first certificate: HTTP/1.1 on the tunnel's port, for who has none (tunnel-v1.md, section 11).

    GET  /.well-known/0trust/authority   the root's certificate, PEM
    POST /.well-known/0trust/return      {"certificate", "csr", "proof"} -> {"agent", "certificate"}
    POST /.well-known/0trust/join        {"token", "csr"} -> {"agent", "certificate", "authority", "hosts"}

Whoever connects without a certificate ends here or nowhere: a session is only ever made for one with a certificate.
Strangers can be many, so everything here is bounded: connections, their time, and what they may send.
"""

import asyncio
import base64
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from zerotrust.errors import EnrolmentRefused, ZeroTrustError
from zerotrust.limits.client_network import network_of
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.net.json_api import Call, CallError, JsonApi, Reply
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import HTTP
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki.csr import MAX_BYTES
from zerotrust.telemetry import logs

AUTHORITY: Final = "/.well-known/0trust/authority"
JOIN: Final = "/.well-known/0trust/join"
RETURN: Final = "/.well-known/0trust/return"
PEM: Final = "application/x-pem-file"
MAX_CONNECTIONS: Final = 64
"""At the same time, of all who have no certificate."""
MAX_OF_NETWORK: Final = 8
"""Of these, from one IPv4 address or one /64."""
LIFE: Final = 15.0
"""Seconds. A connection lasts so long at least and twice that at most: joining takes one."""
MAX_TOKEN: Final = 512
MAX_CHAIN: Final = 32768
MAX_PROOF: Final = 2048

_log = logs.logger("enrolment")


class Joined(Protocol):
    """What an agent that has joined is told (enrollment.join)."""

    @property
    def agent_id(self) -> str:
        """Who it is from now on."""

    @property
    def chain_pem(self) -> bytes:
        """Its certificate and those between it and the root."""

    @property
    def patterns(self) -> Sequence[str]:
        """The host names that it may serve."""


class Enrollment(Protocol):
    """Who decides about those that want to join."""

    def root_pem(self) -> bytes:
        """The authority's root.

        Raises:
            ZeroTrustError: there is none at the moment.
        """

    async def join(self, token: str, csr_pem: bytes, peer: str) -> Joined:
        """Let in who has a token; committed when it returns.

        Args:
            peer: the asker's IP address.

        Raises:
            EnrolmentRefused: and why, in words for the asker.
        """

    async def come_back(self, chain_pem: bytes, csr_pem: bytes, proof: bytes, peer: str) -> Joined:
        """Give an agent a new certificate for one that has ended; committed when it returns.

        Args:
            chain_pem: the certificate that has ended, and those between it and the root.
            proof: made by its key (pki.proof_of_possession).
            peer: the asker's IP address.

        Raises:
            EnrolmentRefused: and why, in words for the asker.
        """


class EnrollmentEndpoint:
    """Serves those without a certificate; nobody where there is no enrolment."""

    def __init__(self, enrolment: Enrollment | None, *, coalescer: WriteCoalescer, tasks: Tasks) -> None:
        self._enrolment = enrolment
        self._coalescer = coalescer
        endpoints = {("GET", AUTHORITY): self._authority, ("POST", JOIN): self._join, ("POST", RETURN): self._return}
        self._api = JsonApi(endpoints, tasks, one_call=True)
        self._open: set[HttpServerConnection] = set()
        tasks.spawn(self._sweep(), "sweep enrolments")

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._open)

    def use(self, enrolment: Enrollment | None) -> None:
        """Let this decide from now on."""
        self._enrolment = enrolment

    def receive(self, peer: str) -> asyncio.Protocol | str:
        """Who serves a new connection from this IP address, or why nobody does."""
        if self._enrolment is None:
            return "no certificate, and nobody can join here"
        network = network_of(peer.encode())
        same = sum(network_of((connection.peer_host or "").encode()) == network for connection in self._open)
        if same >= MAX_OF_NETWORK or len(self._open) >= MAX_CONNECTIONS:
            return "too many connections of those that have no certificate"
        return HttpServerConnection(self._coalescer, self._api, self._open).as_protocol()

    def close(self) -> None:
        """End all connections."""
        for connection in list(self._open):
            connection.abort()

    async def _authority(self, _call: Call) -> Reply:
        return Reply(self._decider().root_pem(), media_type=PEM)

    async def _join(self, call: Call) -> Reply:
        token, csr = _text(call, "token", MAX_TOKEN), _text(call, "csr", MAX_BYTES)
        enrolment = self._decider()
        try:
            # Before anything is decided: a token must not be used up for an answer that cannot be given.
            root = enrolment.root_pem()
            joined = await enrolment.join(token, csr.encode("ascii"), call.peer)
        except EnrolmentRefused as error:
            _log.warning("join refused", peer=call.peer, reason=str(error))
            raise
        except ZeroTrustError as error:
            # What is wrong with our files and database is not for strangers.
            _log.error("nobody can join", peer=call.peer, reason=str(error))
            raise CallError("the server cannot issue certificates at the moment; its log says why", 503) from error
        _log.info("agent joined", agent=joined.agent_id, peer=call.peer, hosts=list(joined.patterns))
        return Reply(
            {
                "agent": joined.agent_id,
                "certificate": joined.chain_pem.decode("ascii"),
                "authority": root.decode("utf-8"),
                "hosts": list(joined.patterns),
            }
        )

    async def _return(self, call: Call) -> Reply:
        chain, csr = _text(call, "certificate", MAX_CHAIN), _text(call, "csr", MAX_BYTES)
        try:
            proof = base64.b64decode(_text(call, "proof", MAX_PROOF), validate=True)
        except ValueError:
            raise CallError('"proof" is not base64') from None
        try:
            back = await self._decider().come_back(chain.encode("ascii"), csr.encode("ascii"), proof, call.peer)
        except EnrolmentRefused as error:
            _log.warning("return refused", peer=call.peer, reason=str(error))
            raise
        except ZeroTrustError as error:
            _log.error("no agent can come back", peer=call.peer, reason=str(error))
            raise CallError("the server cannot issue certificates at the moment; its log says why", 503) from error
        _log.info("agent came back", agent=back.agent_id, peer=call.peer)
        return Reply({"agent": back.agent_id, "certificate": back.chain_pem.decode("ascii")})

    def _decider(self) -> Enrollment:
        if self._enrolment is None:
            raise CallError("nobody can join here any more", 503)
        return self._enrolment

    async def _sweep(self) -> None:
        before: set[HttpServerConnection] = set()
        while True:
            await asyncio.sleep(LIFE)
            for connection in before & self._open:
                connection.abort()
            before = set(self._open)


class ConnectionRouter(asyncio.Protocol):
    """Takes each connection right after its TLS handshake, and hands it to whom it is for."""

    def __init__(
        self,
        *,
        agents: Callable[[], asyncio.Protocol],
        desk: EnrollmentEndpoint,
        refused: Callable[[str, str], None],
    ) -> None:
        self._agents = agents
        self._desk = desk
        self._refused = refused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast("asyncio.Transport", transport)
        tls = connection.get_extra_info("ssl_object")
        host, port = connection.get_extra_info("peername")[:2]
        protocol: asyncio.Protocol | str
        if tls.getpeercert(True):
            protocol = self._agents()
        elif tls.selected_alpn_protocol() != HTTP:
            protocol = "no certificate; an agent gets one with 0trust agent join"
        else:
            protocol = self._desk.receive(host)
        if isinstance(protocol, str):
            self._refused(f"{host}:{port}", protocol)
            connection.abort()
            return
        connection.set_protocol(protocol)
        protocol.connection_made(connection)


def _text(call: Call, key: str, most: int) -> str:
    value = call.body.get(key)
    if not isinstance(value, str) or not value or len(value) > most or not value.isascii():
        raise CallError(f'"{key}" is missing, too long or not text')
    return value
