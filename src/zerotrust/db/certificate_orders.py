"""Rows of `certificate_orders`: each is a lease, in which one server orders a certificate.

A lease ends by itself, so a server that dies keeps the others waiting for a minute at most.
"""

from typing import Final

from sqlalchemy import delete
from sqlalchemy.orm import Session

from zerotrust.db import servers
from zerotrust.db.tables import CertificateOrderRow

LEASE: Final = 60
"""Seconds after which another server may order. Caddy repeats a failed order after so long, too."""


def begin(session: Session, host: str, server_id: str) -> bool:
    """Begin the lease of a host name; return False if another server has it.

    A lease of the same server goes on, and ends no later than before: a server whose orders fail
    must not keep the others from theirs.
    """
    now = servers.clock(session)
    session.execute(delete(CertificateOrderRow).where(CertificateOrderRow.lease_ends_at <= now))
    row = session.get(CertificateOrderRow, host)
    if row is None:
        session.add(CertificateOrderRow(host=host, server_id=server_id, lease_ends_at=now + LEASE))
        return True
    return row.server_id == server_id


def end(session: Session, host: str, server_id: str) -> None:
    """End the lease of a host name, if this server has it."""
    session.execute(
        delete(CertificateOrderRow).where(
            CertificateOrderRow.host == host, CertificateOrderRow.server_id == server_id
        )
    )
