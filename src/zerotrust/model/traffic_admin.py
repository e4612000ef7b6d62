"""Requests and responses of the admin API about open connections and finished requests.

They follow the rules of `model.admin`. Texts of clients are cut, and have no query.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from zerotrust.model.admin import Number
from zerotrust.model.base import Model
from zerotrust.model.service_access import Inspection
from zerotrust.model.strict import Strict

MAX_ROWS: Final = 1000
MAX_TEXT: Final = 254

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]

ConnectionKind = Literal["websocket", "upgrade", "request"]


class ConnectionQuery(Strict):
    """Request for open connections that fit all of the filters, newest first.

    `host` is a host name, or the wildcard under which a service is registered. `user` is the name
    of a user, or `machine:NAME` and the like. `before` is the number of the last row of the page
    before.
    """

    host: Text | None = None
    user: Text | None = None
    agent: Text | None = None
    before: Number | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 100


class EndConnectionRequest(Strict):
    """Request to end one connection, with its `id` in the list."""

    id: Text


class ConnectionInfo(Model):
    """WebSocket, other upgraded connection, or request that has run for some time.

    `since` is None if the request began before the server took notes. `round_trip` is that of the
    link to the agent, in seconds; None while the agent is away. `user` is empty if everybody
    may enter. `inspection` is the most that the service lets the server show of WebSockets.

    The rest is about WebSockets; it is None for other connections, and where the service does not
    allow inspection. `frames_received` and `frames_sent` are numbers of frames, from and to the
    client. `client_round_trip` and `backend_round_trip` are the seconds from the server to that end
    and back, by the last ping of the application; None without a ping.
    """

    id: str
    number: int
    kind: ConnectionKind
    host: str
    method: str
    path: str
    client: str
    user: str
    agent: str
    service: str
    since: int | None
    received: int
    sent: int
    round_trip: float | None
    inspection: Inspection = "metadata"
    frames_received: int | None = None
    frames_sent: int | None = None
    client_round_trip: float | None = None
    backend_round_trip: float | None = None


class ConnectionList(Model):
    """Open connections, newest first.

    `total` is the number of those that fit, on this page or not.
    """

    connections: list[ConnectionInfo]
    total: int


class EndedConnection(Model):
    """Connection that was ended."""

    id: str
    host: str
    user: str
