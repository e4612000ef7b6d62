"""Chain of handlers: runs them in order until one answers."""

from collections.abc import Sequence

from zerotrust.middleware.cors import CorsMiddleware
from zerotrust.middleware.header_edits import edit_lines, refusal_edits
from zerotrust.middleware.interface import Answer, Middleware, NeedsVerification, Request


class MiddlewareChain:
    """Handlers of one route, in order.

    A chain without handlers passes every request; check `handlers` to avoid the call.
    """

    __slots__ = ("_cors", "handlers")

    def __init__(self, handlers: Sequence[Middleware]) -> None:
        self.handlers = tuple(handlers)
        self._cors = [
            (place, handler)
            for place, handler in enumerate(handlers)
            if isinstance(handler, CorsMiddleware)
        ]

    def run(self, request: Request, now: float) -> Answer | NeedsVerification | None:
        """Return an answer, a verification to wait for, or None to pass the request.

        A request that passes continues with `request.target` and with
        `edit_lines(request.fields.lines, request.edits)`, and its response is changed by
        `request.response_edits`. An answer already has these changes. It also has the CORS headers
        of handlers that were not reached: without them, a script would see a failure without a
        status.
        """
        return self._run_from(0, request, now)

    def resume(
        self, pending: NeedsVerification, result: bool | None, request: Request, now: float
    ) -> Answer | NeedsVerification | None:
        """Continue after a verification that `run` returned, with its result."""
        answer = pending.verifier.verified(pending.verification, result, request, now)
        if answer is not None:
            return self._with_response_edits(answer, pending.position, request)
        return self._run_from(pending.position + 1, request, now)

    def ask_origin(self, request: Request) -> Answer | None:
        """Return the answer to a preflight request from the CORS handlers alone, else None.

        After None, `request.response_edits` has the CORS headers for a refusal.
        """
        for _, cors in self._cors:
            answer = cors.request(request, 0.0)
            if answer is not None:
                return answer
        return None

    def _run_from(
        self, first: int, request: Request, now: float
    ) -> Answer | NeedsVerification | None:
        for position in range(first, len(self.handlers)):
            result = self.handlers[position].request(request, now)
            if isinstance(result, Answer):
                return self._with_response_edits(result, position, request)
            if result is not None:
                return result._replace(position=position)
        return None

    def _with_response_edits(self, answer: Answer, position: int, request: Request) -> Answer:
        if not isinstance(self.handlers[position], CorsMiddleware):
            for place, cors in self._cors:
                if place > position:
                    cors.admit(request)
        edits = request.response_edits
        if not edits:
            return answer
        return answer._replace(
            lines=edit_lines(answer.lines, refusal_edits(edits) if answer.code else edits)
        )
