"""Jobs and outcomes of the load generator: one JSON object per line, each way."""

import json
from dataclasses import asdict, dataclass, field
from typing import Final, Literal, Self

GIVES_WAY: Final = "--gives-way"
"""Argument of a load generator that leaves the processor to all others."""

Kind = Literal[
    "get",
    "fresh",
    "echo",
    "handshake",
    "download",
    "upload",
    "events",
    "probe",
    "hold",
    "stall",
    "flood",
    "strangers",
    "dashboards",
]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Address of a service: the address to connect to and the host name to ask for.

    `path` is that of a unix socket, in place of address and port.

    `root` is the authority that the certificate is verified against. Without one it is not
    verified: for a peer, whose authority we do not know, and where each operation is a handshake
    (see load.work).
    """

    host: str
    port: int = 0
    address: str = "127.0.0.1"
    tls: bool = False
    root: str | None = None
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job for the generator.

    Attributes:
        connections: number of concurrent connections.
        seconds: measured time, after `warm_up` seconds that are not measured.
        rate: operations per second, each due at its time (open loop); None for as fast as possible
            (closed loop).
        size: bytes of a message, of a response body, or of a whole transfer.
        hosts: host names to request in turn in place of the endpoint's own; connections go to the
            endpoint.
        paths: paths to request in turn in place of `path`.
        fields: more header lines of GET requests, as `Name: value`.
        status: expected status of the answers to strangers.
        watch: process ids by name, whose CPU time is measured.
    """

    kind: Kind
    endpoint: Endpoint
    connections: int = 1
    seconds: float = 1.0
    warm_up: float = 0.2
    rate: float | None = None
    size: int = 0
    path: str = "/"
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    status: int = 401
    watch: dict[str, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the job as a line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Self:
        """Parse a line."""
        fields = json.loads(line)
        fields["endpoint"] = Endpoint(**fields["endpoint"])
        for name in ("hosts", "paths", "fields"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of a job.

    Attributes:
        rate: operations (of a transfer: bytes) per second.
        p50, p99, worst: latencies in milliseconds; 0 if none were measured.
        cpu: CPU seconds per operation of each watched process.
        took: seconds from the start of the job to its end.
    """

    rate: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    took: float = 0.0

    def encode(self) -> bytes:
        """Return the outcome as a line."""
        return json.dumps(asdict(self)).encode() + b"\n"
