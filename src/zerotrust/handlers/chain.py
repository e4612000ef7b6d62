"""The handlers of one route, in order, up to the first answer."""

from collections.abc import Sequence

from zerotrust.handlers.edits import edit_lines
from zerotrust.handlers.protocol import Answer, Handler, Pending, Request


class Chain:
    """Runs handlers. A chain without handlers lets everything pass; the caller need not ask it (`handlers`)."""

    __slots__ = ("handlers",)

    def __init__(self, handlers: Sequence[Handler]) -> None:
        self.handlers = tuple(handlers)

    def run(self, request: Request, now: float) -> Answer | Pending | None:
        """An answer that ends the request here, something to wait for, or None: the request passes.

        A request that passes goes on with `request.target` and with `edit_lines(request.fields.lines, request.edits)`;
        its response is changed by `request.response_edits`. An answer has these changes already.
        """
        return self._run_from(0, request, now)

    def resume(self, pending: Pending, result: bool, request: Request, now: float) -> Answer | Pending | None:
        """Go on where `run` said `pending`, with the result of its verification."""
        answer = pending.verifier.verified(pending.verification, result, request, now)
        if answer is not None:
            return _decorated(answer, request)
        return self._run_from(pending.position + 1, request, now)

    def _run_from(self, first: int, request: Request, now: float) -> Answer | Pending | None:
        for position in range(first, len(self.handlers)):
            said = self.handlers[position].request(request, now)
            if isinstance(said, Answer):
                return _decorated(said, request)
            if said is not None:
                return said._replace(position=position)
        return None


def _decorated(answer: Answer, request: Request) -> Answer:
    # A refusal, too, is read by scripts of other origins, and counts for a rate limit before it.
    if not request.response_edits:
        return answer
    return answer._replace(lines=edit_lines(answer.lines, request.response_edits))
