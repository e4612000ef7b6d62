"""Requests and policies for middleware tests."""

from typing import Any

from pydantic import TypeAdapter

from zerotrust.http.head import parse_request
from zerotrust.middleware.header_edits import edit_lines
from zerotrust.middleware.interface import Answer, NeedsVerification, Request
from zerotrust.middleware.policy import Policy, compile_policy
from zerotrust.model import middleware as model
from zerotrust.model.service import Route

SECRET = b"k" * 32
HANDLER: TypeAdapter[Any] = TypeAdapter(model.Handler)


def request(
    *lines: str,
    method: str = "GET",
    target: str = "/",
    client: str = "203.0.113.9",
    unix_time: float = 1_000_000.0,
    scheme: str = "https",
    host: str = "App.example.com:443",
) -> Request:
    raw = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n" + "".join(
        f"{line}\r\n" for line in lines
    )
    return Request(
        parse_request(raw.encode("latin-1") + b"\r\n"),
        client=client.encode(),
        unix_time=unix_time,
        scheme=scheme.encode(),
    )


def policy(*handlers: tuple[str, dict[str, Any]], before: Policy | None = None) -> Policy:
    """Return a policy with these handlers for every request."""
    route = Route.model_validate(
        {"handle": [{"type": kind, "config": config} for kind, config in handlers]}
    )
    return compile_policy([route], secret=SECRET, before=before)


def run(found: Policy, asked: Request, now: float = 0.0) -> Answer | None:
    """Return the answer of a policy, after any verification."""
    chain = found.table.lookup(asked.method, asked.target, asked.fields)
    result = chain.run(asked, now)
    while isinstance(result, NeedsVerification):
        result = chain.resume(result, result.verification.run(), asked, now)
    return result


def forwarded(asked: Request) -> bytes:
    """Return the header lines that the backend gets."""
    return edit_lines(asked.fields.lines, asked.edits)


def returned(asked: Request, lines: bytes = b"") -> bytes:
    """Return the header lines that the client gets for the backend's `lines`."""
    return edit_lines(lines, asked.response_edits)
