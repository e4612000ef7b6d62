"""`respond`: an answer from here, and the one for requests that no route takes."""

from zerotrust.middleware.header_edits import edit_lines, set_field
from zerotrust.middleware.interface import Answer, Request
from zerotrust.model.middleware_settings import RespondConfig


class RespondMiddleware:
    """Gives the same answer to everyone."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def request(self, request: Request, now: float) -> Answer:
        return self._answer


def respond(config: RespondConfig) -> RespondMiddleware:
    """The answer that the configuration describes."""
    body = config.body.encode()
    lines = b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n" if body else b""
    edits = [set_field(name, values) for name, values in config.headers.items()]
    return RespondMiddleware(Answer(config.status, edit_lines(lines, edits), body))


def no_route() -> RespondMiddleware:
    """The answer to requests that no route of the service takes."""
    return RespondMiddleware(Answer(404, code="no_route", message="the service has no route for this request"))
