"""Enrollment API on the tunnel's port, for agents without a valid certificate.

    GET  /.well-known/0trust/authority   the root's certificate, PEM
    POST /.well-known/0trust/return      {"certificate", "csr", "proof"} -> {"agent", "certificate"}
    POST /.well-known/0trust/join        {"token", "csr"}
                                         -> {"agent", "certificate", "authority", "hosts"}

It speaks HTTP/1.1 (tunnel-v1.md, section 11). Its clients are not authenticated, so it limits their
connections, the time that these last, and the size of requests.
"""

import asyncio
import base64
from typing import Final, Protocol

from zerotrust.enrollment.join import IssuedCertificate
from zerotrust.errors import EnrollmentRefused, ZeroTrustError
from zerotrust.limits.client_network import network_of
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.net.json_api import Call, CallError, JsonApi, Reply
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki.csr import MAX_BYTES
from zerotrust.telemetry import logs

AUTHORITY: Final = "/.well-known/0trust/authority"
JOIN: Final = "/.well-known/0trust/join"
RETURN: Final = "/.well-known/0trust/return"
PEM: Final = "application/x-pem-file"
MAX_CONNECTIONS: Final = 64
"""Connections at the same time."""
MAX_OF_NETWORK: Final = 8
"""Connections at the same time from one IPv4 address or one IPv6 /64."""
LIFE: Final = 15.0
"""Seconds. A connection is closed after one to two times this; joining takes a second."""
MAX_TOKEN: Final = 512
MAX_CHAIN: Final = 32768
MAX_PROOF: Final = 2048

_log = logs.logger("enrollment")


class Enrollment(Protocol):
    """Issues certificates to agents that join or return (`server.identity.agent_directory`)."""

    def root_pem(self) -> bytes:
        """Return the authority's root certificate, PEM.

        Raises:
            ZeroTrustError: there is none now.
        """

    async def join(self, token: str, csr_pem: bytes, peer: str) -> IssuedCertificate:
        """Issue the first certificate of an agent; committed when it returns.

        Args:
            peer: IP address of the client.

        Raises:
            EnrollmentRefused: with the reason, in words for the client.
        """

    async def renew_expired(
        self, chain_pem: bytes, csr_pem: bytes, proof: bytes, peer: str
    ) -> IssuedCertificate:
        """Issue a new certificate for an expired one; committed when it returns.

        Args:
            chain_pem: the expired certificate, and those between it and the root.
            proof: signature by its key (`pki.proof_of_possession`).
            peer: IP address of the client.

        Raises:
            EnrollmentRefused: with the reason, in words for the client.
        """


class EnrollmentEndpoint:
    """Serves connections without a certificate; none while `enrollment` is None."""

    def __init__(
        self, enrollment: Enrollment | None, *, coalescer: WriteCoalescer, tasks: Tasks
    ) -> None:
        self._enrollment = enrollment
        self._coalescer = coalescer
        endpoints = {
            ("GET", AUTHORITY): self._authority,
            ("POST", JOIN): self._join,
            ("POST", RETURN): self._return,
        }
        self._api = JsonApi(endpoints, tasks, one_call=True)
        self._open: set[HttpServerConnection] = set()
        tasks.spawn(self._sweep(), "close old enrollment connections")

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._open)

    def reconfigure(self, enrollment: Enrollment | None) -> None:
        """Issue certificates by another authority from now on; by none where it is None."""
        self._enrollment = enrollment

    def accept(self, peer: str) -> asyncio.Protocol | str:
        """Return the protocol for a new connection from an IP address, or a reason to refuse it."""
        if self._enrollment is None:
            return "no certificate, and this server issues none"
        network = network_of(peer.encode())
        same = sum(
            network_of((connection.peer_host or "").encode()) == network
            for connection in self._open
        )
        if same >= MAX_OF_NETWORK or len(self._open) >= MAX_CONNECTIONS:
            return "too many connections without a certificate"
        return HttpServerConnection(self._coalescer, self._api, self._open).as_protocol()

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._open):
            connection.abort()

    async def _authority(self, _call: Call) -> Reply:
        return Reply(self._issuer().root_pem(), media_type=PEM)

    async def _join(self, call: Call) -> Reply:
        token, csr = _text(call, "token", MAX_TOKEN), _text(call, "csr", MAX_BYTES)
        enrollment = self._issuer()
        try:
            # Read the root first: a token must not be used up for an answer that cannot be given.
            root = enrollment.root_pem()
            joined = await enrollment.join(token, csr.encode("ascii"), call.peer)
        except EnrollmentRefused as error:
            _log.warning("join refused", peer=call.peer, reason=str(error))
            raise
        except ZeroTrustError as error:
            # The client is not authenticated, so it is told nothing about files and database.
            _log.error(
                "cannot issue certificates to joining agents", peer=call.peer, reason=str(error)
            )
            raise CallError(
                "the server cannot issue certificates at the moment; its log says why", 503
            ) from error
        _log.info(
            "agent joined", agent=joined.agent_id, peer=call.peer, hosts=list(joined.patterns)
        )
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
            renewed = await self._issuer().renew_expired(
                chain.encode("ascii"), csr.encode("ascii"), proof, call.peer
            )
        except EnrollmentRefused as error:
            _log.warning(
                "renewal of an expired certificate refused", peer=call.peer, reason=str(error)
            )
            raise
        except ZeroTrustError as error:
            _log.error("cannot renew expired certificates", peer=call.peer, reason=str(error))
            raise CallError(
                "the server cannot issue certificates at the moment; its log says why", 503
            ) from error
        _log.info("expired certificate renewed", agent=renewed.agent_id, peer=call.peer)
        return Reply({"agent": renewed.agent_id, "certificate": renewed.chain_pem.decode("ascii")})

    def _issuer(self) -> Enrollment:
        if self._enrollment is None:
            raise CallError("this server issues no certificates any more", 503)
        return self._enrollment

    async def _sweep(self) -> None:
        before: set[HttpServerConnection] = set()
        while True:
            await asyncio.sleep(LIFE)
            for connection in before & self._open:
                connection.abort()
            before = set(self._open)


def _text(call: Call, key: str, most: int) -> str:
    value = call.body.get(key)
    if not isinstance(value, str) or not value or len(value) > most or not value.isascii():
        raise CallError(f'"{key}" is missing, too long or not text')
    return value
