"""Renewal of a certificate that has expired (docs/spec/tunnel-v1.md, section 11).

TLS refuses an expired certificate. So the agent sends it in an HTTP request, with a certificate
request for a new one and a signature of both by the old key. The agent verifies the server as
always, before it sends anything.
"""

import asyncio
import base64
from pathlib import Path
from typing import Final

from zerotrust.agent.enrollment_client import DEADLINE, EnrollmentClient, read_object
from zerotrust.agent.proxies import Proxies
from zerotrust.agent.server_location import ServerLocation
from zerotrust.agent.transport_selector import TransportSelector
from zerotrust.errors import JoinError
from zerotrust.model.agent import ServerAddress
from zerotrust.pki import keys
from zerotrust.pki.proof_of_possession import prove
from zerotrust.tunnel.messages import Renew, Renewed

RETURN: Final = "/.well-known/0trust/return"


async def renew_expired(
    server: ServerAddress, message: Renew, proxies: Proxies | None = None
) -> Renewed:
    """Return the server's answer to a request for a certificate in place of an expired one.

    Args:
        proxies: the proxies to connect through.

    Raises:
        JoinError: the server issues none; the message says why, in one line.
        PkiError: certificate, key or authority can't be read.
    """
    client = EnrollmentClient(
        ServerLocation.all_of(server)[0],
        TransportSelector(server.transport),
        trusted="server.ca_cert holds",
        proxies=proxies,
    )
    csr = message.csr.encode("ascii")
    proof = prove(keys.read_key(Path(server.key)), csr)
    body = {
        "certificate": keys.read(Path(server.cert), what="certificate").decode("ascii"),
        "csr": message.csr,
        "proof": base64.b64encode(proof).decode("ascii"),
    }
    authority = keys.read(Path(server.ca_cert), what="certificate").decode("ascii")
    with client.explaining_errors():
        async with asyncio.timeout(DEADLINE):
            # The error message needs the server's clock if the server's certificate is refused for
            # its dates.
            await client.compare_clocks()
            answer = read_object(await client.post(RETURN, body, authority=authority))
    try:
        return Renewed(chain=answer["certificate"])
    except (KeyError, ValueError):
        raise JoinError(
            "cannot read the server's answer: its version may be newer than the agent's; see"
            " its log"
        ) from None
