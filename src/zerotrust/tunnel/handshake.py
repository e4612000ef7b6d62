"""Handshake: HELLO, WELCOME and the parameters of this end (tunnel-v1.md, section 3)."""

from dataclasses import dataclass
from typing import Final

from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.codes import CAPABILITIES, MEMBERS, RESUME, VERSION, WORKERS, Code, FrameType
from zerotrust.tunnel.messages import MAX_HELLO_BYTES, Hello, Resume, Welcome, decode
from zerotrust.tunnel.resume import REPLAY_BYTES
from zerotrust.tunnel.window import DEFAULT_WINDOW, MAX_UNCONSUMED_BYTES

SHARED_QUEUE_BYTES: Final = 32 * 1024 * 1024
"""256 streams with full queues."""
MAX_QUEUED_BYTES: Final = 128 * 1024 * 1024
"""As much as MAX_UNCONSUMED_BYTES allows the peer to receive for slow readers."""
CONGESTED_BYTES: Final = 4 * 1024 * 1024
"""Thirty of the largest heads, or the usual heads of some thousand requests."""
MAX_UNWRITTEN_BYTES: Final = 32 * 1024 * 1024
"""2 KiB for each of 16384 streams: the head of its answer."""


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """Parameters of this end of a session.

    Attributes:
        window: initial window of each stream, in bytes.
        max_streams: streams that the peer may have open.
        max_unconsumed_bytes: received bytes that the sinks have not consumed; the stream that
            passes it is reset.
        resume_timeout: seconds for which a session waits without a link; the acceptor decides.
        replay_bytes: unacknowledged bytes above which no DATA is sent.
        shared_queue_bytes: queued bytes of bodies above which streams queue only what leaves soon.
        max_queued_bytes: queued bytes of bodies above which the largest queues are reset.
        congested_bytes: waiting bytes of other frames above which neither end opens a stream.
        max_unwritten_bytes: waiting bytes of other frames above which the session is closed.
        instance: 32 hexadecimal digits that all sessions of one agent process share (dialers).
        connection: number of this session among those of the instance; it replaces an older one
            (dialers).
        worker: number of the acceptor's worker that the session is for (dialers), or of this worker
            (acceptors).
        workers: number of the acceptor's workers (acceptors).
        server: id of the acceptor, 32 hexadecimal digits; empty where it shares no database
            (acceptors).
    """

    software: str = ""
    window: int = DEFAULT_WINDOW
    max_streams: int = 16384
    max_unconsumed_bytes: int = MAX_UNCONSUMED_BYTES
    capabilities: tuple[str, ...] = CAPABILITIES
    resume_timeout: float = 60.0
    replay_bytes: int = REPLAY_BYTES
    shared_queue_bytes: int = SHARED_QUEUE_BYTES
    max_queued_bytes: int = MAX_QUEUED_BYTES
    congested_bytes: int = CONGESTED_BYTES
    max_unwritten_bytes: int = MAX_UNWRITTEN_BYTES
    instance: str = ""
    connection: int = 0
    worker: int = 0
    workers: int = 1
    server: str = ""


def hello(options: SessionOptions, resume: Resume | None = None) -> bytes:
    """Return the payload of HELLO; `resume` asks for an older session."""
    return Hello(
        versions=[VERSION],
        capabilities=list(options.capabilities),
        software=options.software,
        window=options.window,
        max_streams=options.max_streams,
        instance=options.instance or None,
        connection=options.connection,
        worker=options.worker or None,
        resume=resume,
    ).encode()


def welcome(
    options: SessionOptions,
    session: str,
    capabilities: frozenset[str],
    *,
    secret: str,
    received: int | None = None,
) -> bytes:
    """Return the payload of WELCOME; `received` if it resumes an older session."""
    resumable = RESUME in capabilities
    return Welcome(
        version=VERSION,
        capabilities=sorted(capabilities),
        session=session,
        software=options.software,
        window=options.window,
        max_streams=options.max_streams,
        secret=secret if resumable else None,
        resume_timeout=options.resume_timeout if resumable else 0.0,
        resumed=received is not None,
        received=received or 0,
        workers=options.workers if options.workers > 1 else None,
        server=options.server or None if MEMBERS in capabilities else None,
    ).encode()


def common(options: SessionOptions, peer: Hello | Welcome) -> frozenset[str]:
    """Return the capabilities that both ends have."""
    return frozenset(options.capabilities) & frozenset(peer.capabilities)


def read_hello(kind: int, payload: bytes, options: SessionOptions) -> Hello:
    """Return the HELLO in the dialer's first frame.

    Raises:
        RemoteProtocolError: it is not HELLO, the two ends have no version in common, or the session
            is for another worker.
    """
    _check(kind, FrameType.HELLO, payload)
    peer = decode(Hello, payload)
    if VERSION not in peer.versions:
        raise RemoteProtocolError(
            f"the agent speaks versions {peer.versions}, this server {VERSION}", wire=Code.VERSION
        )
    if options.workers > 1 and WORKERS not in peer.capabilities:
        raise RemoteProtocolError(
            "this server has several workers, which the agent does not know: update the agent",
            wire=Code.VERSION,
        )
    if (peer.worker or 0) != options.worker:
        raise RemoteProtocolError(
            f"the session is for worker {peer.worker or 0}, this is worker {options.worker}",
            wire=Code.WRONG_WORKER,
        )
    return peer


def read_welcome(kind: int, payload: bytes) -> Welcome:
    """Return the WELCOME in the acceptor's first frame.

    Raises:
        RemoteProtocolError: it is not WELCOME, or it has a version that was not offered.
    """
    _check(kind, FrameType.WELCOME, payload)
    peer = decode(Welcome, payload)
    if peer.version != VERSION:
        raise RemoteProtocolError(f"the server chose version {peer.version}", wire=Code.VERSION)
    if RESUME in peer.capabilities and peer.secret is None:
        raise RemoteProtocolError("WELCOME offers to resume, and has no secret for it")
    return peer


def _check(kind: int, expected: FrameType, payload: bytes) -> None:
    if kind != expected:
        raise RemoteProtocolError(
            f"the first frame is of type {kind:#04x}, {expected.name} expected"
        )
    if len(payload) > MAX_HELLO_BYTES:
        raise RemoteProtocolError(
            f"{expected.name} of {len(payload)} bytes, at most {MAX_HELLO_BYTES} allowed"
        )
