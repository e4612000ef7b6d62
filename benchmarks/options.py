"""Options of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.load.jobs import Endpoint
from benchmarks.regression import TOLERATED
from zerotrust.errors import BenchError

ROUNDS: Final = 5
SECONDS: Final = 3.0
QUICK_ROUNDS: Final = 3
QUICK_SECONDS: Final = 0.5

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_BACKEND_PORTS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another tunnel to compare with: its HTTP and its WebSocket endpoint."""

    name: str
    web: Endpoint | None = None
    socket: Endpoint | None = None


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a run.

    Attributes:
        only: text in the names of the workloads to run.
        with_peers: measure the other tunnels that are installed (lab.peers), and only the workloads
            that compare targets.
        backend: first of the three ports of the backends; None takes free ports.
        check: results of an earlier run, to compare with.
        tolerance: share by which a ratio may fall below the earlier run.
    """

    only: str = ""
    rounds: int = ROUNDS
    seconds: float = SECONDS
    quick: bool = False
    growth: bool = False
    with_peers: bool = False
    peers: tuple[Peer, ...] = ()
    backend: int | None = None
    out: Path = Path("benchmarks/results")
    check: Path | None = None
    tolerance: float = TOLERATED


def parse_peers(texts: list[str], backend: int | None) -> tuple[Peer, ...]:
    """Parse peers of the form `NAME=URL`; a name may have an http(s) and a ws(s) URL.

    Raises:
        BenchError: a text has another form, or the backend's port is not set.
    """
    if texts and backend is None:
        raise BenchError(
            "a peer has to know the backend before we start: add --backend PORT (HTTP on PORT,"
            " WebSocket on PORT + 1)"
        )
    if backend is not None and not 0 < backend <= 65536 - _BACKEND_PORTS:
        raise BenchError(f"--backend {backend}: it and the two after it have to be port numbers")
    found: dict[str, dict[str, Endpoint]] = {}
    for text in texts:
        name, separator, url = text.partition("=")
        scheme = url.partition("://")[0].lower()
        if not name or not separator or scheme not in _PORTS:
            raise BenchError(f'--peer "{text}": write NAME=URL, with http, https, ws or wss')
        found.setdefault(name, {})["web" if scheme.startswith("http") else "socket"] = _endpoint(
            text, url, scheme
        )
    return tuple(Peer(name=name, **ends) for name, ends in found.items())


def _endpoint(text: str, url: str, scheme: str) -> Endpoint:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS[scheme]
    except ValueError:
        host, port = None, 0
    if not host:
        raise BenchError(f'--peer "{text}": the URL has no host and port')
    local = host == "localhost" or host.endswith(".localhost")
    return Endpoint(
        host=host,
        port=port,
        address="127.0.0.1" if local else host,
        tls=scheme in ("https", "wss"),
        root=None,
    )
