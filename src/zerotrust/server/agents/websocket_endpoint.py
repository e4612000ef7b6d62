"""Endpoint for agents that reach the server through Caddy, by a WebSocket (docs/spec/tunnel-v1.md,
section 12)."""

from collections.abc import Collection

from zerotrust.errors import HttpError
from zerotrust.http.error_responses import error_reply
from zerotrust.http.head import RequestHead
from zerotrust.http.websocket_handshake import TUNNEL_PATH, response_block
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.net.websocket_transport import WebSocketTransport
from zerotrust.server.agents.listener import AgentListener


class WebSocketEndpoint:
    """Accepts tunnels at `websocket_handshake.TUNNEL_PATH` of the server's own host names.

    A WebSocket is worth as much as a TCP connection to the agents' port: the TLS inside it
    authenticates the agent, under the same limits.

    Attributes:
        hosts: the host names; other ones have services at this path.
    """

    def __init__(self, listener: AgentListener, hosts: Collection[str]) -> None:
        self._listener = listener
        self.hosts = frozenset(hosts)

    def serves(self, head: RequestHead) -> bool:
        """Return True if a request is for this endpoint; its query says to which worker it goes."""
        return head.fields.host in self.hosts and head.target.partition(b"?")[0] == TUNNEL_PATH

    def request(
        self, connection: HttpServerConnection, head: RequestHead, client: bytes
    ) -> RequestSink | None:
        """Open the tunnel of a client at this address; return its transport, or None if refused."""
        try:
            if not client:
                raise HttpError("the proxy in front sent no client address")
            block = response_block(head)
        except HttpError as error:
            connection.reply(
                error_reply(
                    error.reply,
                    code=error.code,
                    hop="server",
                    message=str(error),
                    request_id="-",
                    close=True,
                    head_only=head.method == b"HEAD",
                    retry_after=None,
                ),
                close=True,
            )
            return None
        host = client.decode("ascii")
        websocket = WebSocketTransport(connection, client=False, peername=(host, "websocket"))
        connection.become_tunnel(block, websocket)
        self._listener.accept(websocket, host)
        return websocket
