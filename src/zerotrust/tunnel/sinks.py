"""What a session tells its owner.

Events are calls, not objects: one plain call per frame is what the data path can afford. A sink may call back into the
session from within an event. It must not raise; if it does when a frame arrives, the session resets the frame's stream.
"""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from zerotrust.tunnel.codes import Code
    from zerotrust.tunnel.messages import ControlMessage, Hello, Resume, Welcome
    from zerotrust.tunnel.stream import Stream


class StreamSink(Protocol):
    """The owner of one stream."""

    def head(self, payload: bytes, *, end: bool, interim: bool) -> None:
        """The answer's head (HEAD)."""

    def data(self, payload: bytes, *, end: bool) -> None:
        """Bytes of the body; `Session.consumed` must be called once they have been handed on."""

    def trailers(self, payload: bytes) -> None:
        """Trailer fields; the direction has ended."""

    def reset(self, code: "Code", reason: str) -> None:
        """The stream is over: the peer's RESET, a broken rule, or the end of the session. The last event."""

    def writable(self) -> None:
        """The queue of a stream for which `Session.send_data` returned False has drained."""


class SessionSink(Protocol):
    """The owner of a session."""

    def established(self, peer: "Hello | Welcome") -> None:
        """The handshake is complete."""

    def opened(self, stream: "Stream", payload: bytes, *, end: bool) -> StreamSink | None:
        """The peer opened a stream; the result owns it. None where the owner has already reset it."""

    def message(self, message: "ControlMessage") -> None:
        """The peer sent a control message; the session passes on only those that this end may get."""

    def going_away(self, code: "Code", reason: str) -> None:
        """The peer accepts no new streams."""

    def resume(self, wanted: "Resume") -> None:
        """A dialer wants an older session back (acceptors): who has it takes this connection, or closes the session."""

    def detached(self, reason: str) -> None:
        """The link is gone; the session waits for another one."""

    def reattached(self) -> None:
        """The session goes on over another link."""

    def closed(self, code: "Code", reason: str) -> None:
        """The session is over, all streams have been reset; the link is to be closed after the last output."""
