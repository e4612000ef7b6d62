"""How an agent comes back whose certificate has ended (docs/spec/tunnel-v1.md, section 11).

TLS would refuse the certificate, so it is shown beside TLS: with a request for a new one, and a signature of both by
the old key. The server is verified as always, and before anything is said.
"""

import asyncio
import base64
from pathlib import Path
from typing import Final

from zerotrust.agent.enrollment_client import DEADLINE, EnrollmentClient, read_object
from zerotrust.errors import JoinError
from zerotrust.model.agent import ServerAddress
from zerotrust.model.base import split_address
from zerotrust.pki import keys
from zerotrust.pki.proof_of_possession import prove
from zerotrust.tunnel.messages import Renew, Renewed

RETURN: Final = "/.well-known/0trust/return"


async def come_back(server: ServerAddress, message: Renew) -> Renewed:
    """Ask the server for a certificate in place of one that has ended.

    Raises:
        JoinError: and why there is none, in one line.
        PkiError: certificate, key or authority can't be read.
    """
    host, port = split_address(server.address, default_port=8443)
    client = EnrollmentClient(host, port, trusted="server.ca_cert holds", server_name=server.server_name)
    csr = message.csr.encode("ascii")
    proof = prove(keys.read_key(Path(server.key)), csr)
    body = {
        "certificate": keys.read(Path(server.cert), what="certificate").decode("ascii"),
        "csr": message.csr,
        "proof": base64.b64encode(proof).decode("ascii"),
    }
    authority = keys.read(Path(server.ca_cert), what="certificate").decode("ascii")
    with client.explained():
        async with asyncio.timeout(DEADLINE):
            # TLS fails before anything is said, so a certificate that is refused for its dates would not tell why.
            await client.compare_clocks()
            said = read_object(await client.post(RETURN, body, authority=authority))
    try:
        return Renewed(chain=said["certificate"])
    except (KeyError, ValueError):
        raise JoinError("the server's answer cannot be used; is it a newer version? See its log") from None
