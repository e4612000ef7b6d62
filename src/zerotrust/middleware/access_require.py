"""`access`: requires users, machines or apps that the server knows and that meet conditions.

The conditions are the agent's own. They narrow the rules of the server, whose gate has already let
the request pass.
"""

from collections.abc import Sequence
from typing import Final

from zerotrust.access.conditions import CompiledCondition, CountryOf, may_sign_in, no_country
from zerotrust.access.gate_request import GateRequest
from zerotrust.errors import ForwardError
from zerotrust.middleware.interface import Answer, Request, Requirement
from zerotrust.model.condition import Condition

LOGIN_REQUIRED: Final = Answer(401, code="login_required", message="sign in to use this service")
ACCESS_DENIED: Final = Answer(
    403, code="access_denied", message="the service does not let you in; ask its administrator"
)


class AccessRequireMiddleware:
    """Passes requests that meet all conditions, and notes these for as long as a request runs."""

    __slots__ = ("_conditions",)

    def __init__(
        self, conditions: Sequence[Condition], *, country_of: CountryOf = no_country
    ) -> None:
        self._conditions = tuple(
            CompiledCondition(condition, country_of=country_of) for condition in conditions
        )

    def request(self, request: Request, now: float) -> Answer | None:
        asked = GateRequest(
            request.method, request.target, client=request.client, unix_time=request.unix_time
        )
        try:
            for condition in self._conditions:
                if not condition.holds(request.who, asked):
                    signs_in = may_sign_in((condition,), request.who, asked)
                    return LOGIN_REQUIRED if signs_in else ACCESS_DENIED
        except ForwardError as error:
            return Answer(error.status, code=error.code, message=str(error))
        request.required = (*request.required, Requirement(self._conditions, asked))
        return None
