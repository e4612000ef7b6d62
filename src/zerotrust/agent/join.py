"""How an agent gets its first certificate (docs/spec/tunnel-v1.md, section 11).

The root is fetched from whoever answers, and compared with the fingerprint in the join token; then
a second connection is made that this root verifies, and only through that one go the token and the
request. The key never leaves the machine.
"""

import asyncio
import datetime
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from zerotrust.agent import accepted_certificate
from zerotrust.agent.enrollment_client import AUTHORITY, DEADLINE, EnrollmentClient, read_object
from zerotrust.errors import JoinError, PkiError
from zerotrust.model.base import parse_pattern
from zerotrust.pki import pem_chain
from zerotrust.pki.csr import CertificateRequest
from zerotrust.pki.identity import check_id
from zerotrust.pki.join_line import JoinLine, fingerprint

JOIN: Final = "/.well-known/0trust/join"


@dataclass(frozen=True, kw_only=True)
class JoinResult:
    """What the server gave, checked.

    Attributes:
        chain_pem: the agent's certificate and those between it and the root.
        root_pem: the root that the join token names, and no other.
        hosts: patterns of host names that the agent may serve.
        skew: how far the server's clock is ahead of ours, where that is more than `enrollment_client.SKEW`.
    """

    agent_id: str
    chain_pem: bytes
    root_pem: bytes
    hosts: tuple[str, ...]
    not_after: datetime.datetime
    skew: datetime.timedelta | None


def join(line: JoinLine, request: CertificateRequest) -> JoinResult:
    """Get a certificate from the server that the join token names.

    Raises:
        JoinError: and why there is none, in one line.
    """
    return asyncio.run(_join(line, request))


async def _join(line: JoinLine, request: CertificateRequest) -> JoinResult:
    client = EnrollmentClient(*line.address, trusted="the join token names")
    with client.explained():
        async with asyncio.timeout(DEADLINE):
            root = _pinned(await client.get(AUTHORITY), line)
            root_pem = root.public_bytes(serialization.Encoding.PEM)
            body = {"token": line.token, "csr": request.pem.decode("ascii")}
            said = await client.post(JOIN, body, authority=root_pem.decode("ascii"))
    return _checked(said, root_pem, request, skew=client.skew)


def _pinned(pem: bytes, line: JoinLine) -> x509.Certificate:
    """Return the root that the join token names, from those that the server sent."""
    try:
        offered = pem_chain.parse(pem)
    except PkiError:
        raise JoinError(f"{line.server} sent something other than a certificate; is it a 0trust server?") from None
    for certificate in offered:
        if fingerprint(certificate) == line.fingerprint:
            return certificate
    raise JoinError(
        f"{line.server} has another CA (fingerprint {fingerprint(offered[0])[:16]}…) than the join token names "
        f"({line.fingerprint[:16]}…): the connection may be intercepted, or the CA was replaced; the token was not sent"
    )


def _checked(
    answer: bytes, root_pem: bytes, request: CertificateRequest, *, skew: datetime.timedelta | None
) -> JoinResult:
    said = read_object(answer)
    try:
        agent_id = check_id(str(said["agent"]))
        hosts = tuple(parse_pattern(str(host)) for host in said["hosts"])
        new = accepted_certificate.check(
            str(said["certificate"]).encode(), request.key, agent_id=agent_id, root_pem=root_pem
        )
    except (ValueError, KeyError, TypeError):
        raise JoinError(
            "the server's answer cannot be used; is it a newer version? See its log, and create another join token"
        ) from None
    except PkiError as error:
        raise JoinError(
            f"the server's answer cannot be used: {error}; see its log, and create another join token"
        ) from error
    return JoinResult(
        agent_id=agent_id,
        chain_pem=new.chain_pem,
        root_pem=root_pem,
        hosts=hosts,
        not_after=new.certificate.not_valid_after_utc,
        skew=skew,
    )
