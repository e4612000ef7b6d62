"""Gets the agent's first certificate from a server (docs/spec/tunnel-v1.md, section 11).

The agent fetches the server's root certificate over a connection that it cannot verify, and
compares it with the fingerprint in the join token. Then it makes a second connection, verified by
this root, and sends the token and the certificate request over it. The key stays on the machine.
"""

import asyncio
import datetime
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from zerotrust.agent import accepted_certificate
from zerotrust.agent.enrollment_client import AUTHORITY, DEADLINE, EnrollmentClient, read_object
from zerotrust.agent.proxies import Proxies
from zerotrust.agent.server_location import ServerLocation
from zerotrust.agent.transport_selector import TransportSelector
from zerotrust.errors import JoinError, PkiError
from zerotrust.model.agent import ServerAddress
from zerotrust.model.base import parse_pattern
from zerotrust.net.loop import run_command
from zerotrust.pki import pem_chain
from zerotrust.pki.csr import CertificateRequest
from zerotrust.pki.identity import check_id
from zerotrust.pki.join_token import JoinToken, fingerprint

JOIN: Final = "/.well-known/0trust/join"
DEFAULT_WAY: Final = ServerAddress()
"""The way to the server without settings. Its addresses are not used."""


@dataclass(frozen=True, kw_only=True)
class JoinResult:
    """A checked answer of the server.

    Attributes:
        chain_pem: the agent's certificate and the intermediate certificates.
        root_pem: the root that the join token names.
        hosts: patterns of host names that the agent may serve.
        not_after: the end of the certificate's validity.
        skew: how far the server's clock is ahead; None if less than `enrollment_client.MIN_SKEW`.
    """

    agent_id: str
    chain_pem: bytes
    root_pem: bytes
    hosts: tuple[str, ...]
    not_after: datetime.datetime
    skew: datetime.timedelta | None


def join(
    token: JoinToken,
    request: CertificateRequest,
    way: ServerAddress = DEFAULT_WAY,
    proxies: Proxies | None = None,
) -> JoinResult:
    """Get a certificate from the server that the join token names.

    Args:
        way: settings of the way to the server; its addresses are not used.
        proxies: the proxies to connect through.

    Raises:
        JoinError: the server issues none; the message says why, in one line.
    """
    location = ServerLocation.of(token.server, websocket_address=way.websocket_address)
    client = EnrollmentClient(
        location,
        TransportSelector(way.transport),
        trusted="the join token names",
        proxies=proxies,
    )
    return run_command(_join(client, token, request))


async def _join(
    client: EnrollmentClient, token: JoinToken, request: CertificateRequest
) -> JoinResult:
    with client.explaining_errors():
        async with asyncio.timeout(DEADLINE):
            root = _pinned(await client.get(AUTHORITY), token)
            root_pem = root.public_bytes(serialization.Encoding.PEM)
            body = {"token": token.secret, "csr": request.pem.decode("ascii")}
            answer = await client.post(JOIN, body, authority=root_pem.decode("ascii"))
    return _checked(answer, root_pem, request, skew=client.skew)


def _pinned(pem: bytes, token: JoinToken) -> x509.Certificate:
    """Return the root that the join token names, from those that the server sent."""
    try:
        offered = pem_chain.parse(pem)
    except PkiError:
        raise JoinError(
            f"{token.server} sent something other than a certificate; is it a 0trust server?"
        ) from None
    for certificate in offered:
        if fingerprint(certificate) == token.fingerprint:
            return certificate
    raise JoinError(
        f"{token.server} has another CA (fingerprint {fingerprint(offered[0])[:16]}…) than the join"
        f" token names ({token.fingerprint[:16]}…): someone intercepts the connection, or the CA"
        " was replaced; the token was not sent"
    )


def _checked(
    answer: bytes, root_pem: bytes, request: CertificateRequest, *, skew: datetime.timedelta | None
) -> JoinResult:
    fields = read_object(answer)
    try:
        agent_id = check_id(str(fields["agent"]))
        hosts = tuple(parse_pattern(str(host)) for host in fields["hosts"])
        new = accepted_certificate.check(
            str(fields["certificate"]).encode(), request.key, agent_id=agent_id, root_pem=root_pem
        )
    except (ValueError, KeyError, TypeError):
        raise JoinError(
            "cannot read the server's answer: its version may be newer than the agent's; see its"
            " log, and create another join token"
        ) from None
    except PkiError as error:
        raise JoinError(
            f"cannot use the server's answer: {error}; see the server's log, and create another"
            " join token"
        ) from error
    return JoinResult(
        agent_id=agent_id,
        chain_pem=new.chain_pem,
        root_pem=root_pem,
        hosts=hosts,
        not_after=new.certificate.not_valid_after_utc,
        skew=skew,
    )
