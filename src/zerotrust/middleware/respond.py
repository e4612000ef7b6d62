"""`respond`: fixed responses, and the 404 for a request without a route."""

from zerotrust.middleware.header_edits import edit_lines, set_field
from zerotrust.middleware.interface import Answer, Request
from zerotrust.model.middleware_settings import RespondConfig


class RespondMiddleware:
    """Handler that gives the same answer to every request."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def request(self, request: Request, now: float) -> Answer:
        return self._answer


def respond(config: RespondConfig) -> RespondMiddleware:
    """Return a handler with the response in the configuration."""
    body = config.body.encode()
    lines = (
        b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
        if body
        else b""
    )
    edits = [set_field(name, values) for name, values in config.headers.items()]
    return RespondMiddleware(Answer(config.status, edit_lines(lines, edits), body))


def no_route() -> RespondMiddleware:
    """Return a handler with the 404 for a request that matches no route."""
    return RespondMiddleware(
        Answer(404, code="no_route", message="no route of the service matches this request")
    )
