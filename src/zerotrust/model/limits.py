"""How much a server takes on."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from zerotrust.model.base import Duration, Model
from zerotrust.model.rates import ByteSize, parse_byte_size

LEAST_MEMORY: Final = 1024 * 1024


def _worth_something(value: str) -> str:
    if parse_byte_size(value) < LEAST_MEMORY:
        raise ValueError(f'"{value}" is less than 1MiB, with which nothing works')
    return value


class Limits(Model):
    """How much the server takes on.

    Beyond that new requests get 503 with `Retry-After` at once, until it is a fifth less. What is under way goes on,
    WebSockets stay, and metrics and commands are answered. The server looks ten times a second, so what comes within a
    tenth of a second may go beyond.
    """

    requests: int = Field(default=32_768, ge=1)
    """Requests and WebSockets at the same time: 8 KiB each while they are idle."""

    requests_per_agent: int = Field(default=16_384, ge=1)
    """The same for one agent, in all its sessions; beyond that it counts for the others as this much."""

    memory: Annotated[ByteSize, AfterValidator(_worth_something)] = "512MiB"
    """What all sessions hold: bytes that arrived and have not been handed on, wait to be sent, or are kept to be sent
    again; and their policies, estimated. Half of a small machine."""

    memory_per_agent: Annotated[ByteSize, AfterValidator(_worth_something)] = "96MiB"
    """The same for one agent: less than the 128 MiB at which a session gives streams up. Its policies may take half of
    it, which is about 2 MiB of JSON; further services with a policy are refused."""

    event_loop_lag: Duration = Field(default=0.5, gt=0)
    """How late the server's loop may be, three times in a row."""

    certificates_per_agent: int = Field(default=50, ge=1)
    """New certificates in an hour for host names under the wildcard grants of one agent. Beyond it, TLS connections
    to further new names fail. Let's Encrypt takes 300 orders in 3 hours from the whole server. Names that are granted
    by themselves do not count."""

    certificates_per_domain: int = Field(default=40, ge=1)
    """New certificates in a week for such names below one registered domain, for example `example.com`. Let's Encrypt
    allows 50. Raise both limits if your authority allows more."""

    @property
    def memory_bytes(self) -> int:
        """`memory` as a number."""
        return parse_byte_size(self.memory)

    @property
    def memory_per_agent_bytes(self) -> int:
        """`memory_per_agent` as a number."""
        return parse_byte_size(self.memory_per_agent)
