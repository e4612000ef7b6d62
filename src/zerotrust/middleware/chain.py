"""The handlers of one route, in order, up to the first answer."""

from collections.abc import Sequence

from zerotrust.middleware.cors import CorsMiddleware
from zerotrust.middleware.header_edits import edit_lines, refusal_edits
from zerotrust.middleware.interface import Answer, Middleware, NeedsVerification, Request


class MiddlewareChain:
    """Runs handlers. A chain without handlers lets everything pass; the caller need not ask it (`handlers`)."""

    __slots__ = ("_cors", "handlers")

    def __init__(self, handlers: Sequence[Middleware]) -> None:
        self.handlers = tuple(handlers)
        self._cors = [(place, handler) for place, handler in enumerate(handlers) if isinstance(handler, CorsMiddleware)]

    def run(self, request: Request, now: float) -> Answer | NeedsVerification | None:
        """An answer that ends the request here, something to wait for, or None: the request passes.

        A request that passes goes on with `request.target` and with `edit_lines(request.fields.lines, request.edits)`;
        its response is changed by `request.response_edits`. An answer has these changes already, and says which origins
        may read it wherever in the chain it was given: a script that may not sees a failure without a status.
        """
        return self._run_from(0, request, now)

    def resume(
        self, pending: NeedsVerification, result: bool | None, request: Request, now: float
    ) -> Answer | NeedsVerification | None:
        """Go on where `run` result `pending`, with the result of its verification."""
        answer = pending.verifier.verified(pending.verification, result, request, now)
        if answer is not None:
            return self._with_response_edits(answer, pending.position, request)
        return self._run_from(pending.position + 1, request, now)

    def ask_origin(self, request: Request) -> Answer | None:
        """What the cross-origin rules say, without the other handlers: the answer to a preflight.

        Else None: a refusal then has `request.response_edits` to say which origins may read it.
        """
        for _, cors in self._cors:
            answer = cors.request(request, 0.0)
            if answer is not None:
                return answer
        return None

    def _run_from(self, first: int, request: Request, now: float) -> Answer | NeedsVerification | None:
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
        return answer._replace(lines=edit_lines(answer.lines, refusal_edits(edits) if answer.code else edits))
