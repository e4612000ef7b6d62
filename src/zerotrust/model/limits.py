"""Limits of the server: requests, memory, event-loop lag, certificates."""

from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field

from zerotrust.model.base import Duration, Model
from zerotrust.model.rates import ByteSize, parse_byte_size
from zerotrust.model.workers import share

MIN_MEMORY: Final = 1024 * 1024


def _at_least_min_memory(value: str) -> str:
    if parse_byte_size(value) < MIN_MEMORY:
        raise ValueError(f'"{value}" is too small: must be at least 1MiB')
    return value


class Limits(Model):
    """Limits that protect the server from overload.

    At a limit, new requests get 503 with `Retry-After` until the value has dropped by 20 %. Running
    requests and WebSockets continue, and the server still answers metrics and commands. The server
    measures ten times a second, so requests that arrive within 0.1 s may exceed a limit.
    """

    requests: int = Field(default=32_768, ge=1)
    """Maximum concurrent requests and WebSockets. An idle one takes 8 KiB of memory."""

    requests_per_agent: int = Field(default=16_384, ge=1)
    """Maximum concurrent requests and WebSockets of one agent, over all its sessions. An agent
    counts at most this number towards `requests`."""

    memory: Annotated[ByteSize, AfterValidator(_at_least_min_memory)] = "512MiB"
    """Maximum memory of all sessions: received bytes that are not forwarded yet, bytes that wait to
    be sent or may have to be sent again, and policies (estimated). Use at most half of a small
    machine's memory."""

    memory_per_agent: Annotated[ByteSize, AfterValidator(_at_least_min_memory)] = "96MiB"
    """Maximum memory of one agent's sessions. Stay below 128 MiB: there a session resets streams.
    Policies may take half of it, about 2 MiB of JSON; the server refuses further services with a
    policy."""

    event_loop_lag: Duration = Field(default=0.5, gt=0)
    """Maximum delay of the server's event loop. It counts as exceeded after three measurements in a
    row."""

    certificates_per_agent: int = Field(default=50, ge=1)
    """Maximum new certificates per hour for host names under one agent's wildcard grants. At the
    limit, TLS connections to further new names fail. Names that are granted without a wildcard do
    not count. Let's Encrypt accepts 300 orders in 3 hours from the whole server."""

    certificates_per_wildcard: int = Field(default=20, ge=1)
    """Maximum new certificates per hour for one wildcard that a service has as its host name, such
    as `*.apps.example.com` or `*`. Any client can ask for names below it, so these names take at
    most half of `certificates_per_agent` and `certificates_per_domain`, which count them too."""

    certificates_per_domain: int = Field(default=40, ge=1)
    """Maximum new certificates per week for host names under wildcard grants below one registered
    domain, for example `example.com`. Let's Encrypt accepts 50. Raise both limits if your
    certificate authority accepts more."""

    def shared(self, workers: int) -> Self:
        """Return the limits of one of several workers: its share of those for the whole server."""
        if workers == 1:
            return self
        return self.model_copy(
            update={
                "requests": share(self.requests, workers),
                "requests_per_agent": share(self.requests_per_agent, workers),
                "memory": str(max(share(self.memory_bytes, workers), MIN_MEMORY)),
                "memory_per_agent": str(
                    max(share(self.memory_per_agent_bytes, workers), MIN_MEMORY)
                ),
            }
        )

    @property
    def memory_bytes(self) -> int:
        """Return `memory` in bytes."""
        return parse_byte_size(self.memory)

    @property
    def memory_per_agent_bytes(self) -> int:
        """Return `memory_per_agent` in bytes."""
        return parse_byte_size(self.memory_per_agent)
