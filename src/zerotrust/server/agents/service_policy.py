"""What stands in front of a service: its policy, compiled, as requests meet it.

An agent may be hostile, so its policy is read as strictly as a configuration file; and a policy of which anything
cannot be enforced is refused whole. A guard takes the place of the one before with the counts and logins that it
remembers, so registering again forgives nobody.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from zerotrust.errors import ConfigError, ForwardError
from zerotrust.http.head import RequestHead
from zerotrust.middleware.chain import MiddlewareChain
from zerotrust.middleware.client_address import RequireClientAddress
from zerotrust.middleware.header_edits import Edit, edit_lines
from zerotrust.middleware.interface import Answer, Middleware, Request
from zerotrust.middleware.policy import Policy, compile_policy
from zerotrust.middleware.policy_cost import cost_error
from zerotrust.middleware.request_limits import UNLIMITED, BodyLimit, UpgradeLimit
from zerotrust.model.policy import ServicePolicy
from zerotrust.model.rates import parse_byte_size
from zerotrust.server.agents.service_shaping import ServiceShaping


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPolicy:
    """The policy of one service.

    Attributes:
        max_body: bytes that a request may have; `UNLIMITED` where that is not said.
        upgrades: counts what is upgraded, where that is limited.
        shaping: how fast bytes may pass, where that is limited.
    """

    policy: Policy
    max_body: int
    upgrades: UpgradeLimit | None
    shaping: ServiceShaping | None = None

    def chain(self, head: RequestHead) -> MiddlewareChain:
        """The handlers that a request has to pass.

        Raises:
            AmbiguousPath: which ones these are depends on how a backend would read its path.
            PathTooLong, TooManyParameters: which ones these are depends on a path or query that is too large.
        """
        return self.policy.table.lookup(head.method, head.target, head.fields)

    def ask_origin(self, head: RequestHead, *, by_route: bool = True) -> Answer | list[Edit]:
        """Where a request is refused before the handlers are asked: which origins may read that.

        A preflight is answered all the same: after its failure a browser would not ask for what is refused.

        Args:
            by_route: look for the request's route; else, what holds for requests that no route takes.
        """
        asked = Request(head, client=b"", unix_time=0.0)
        chain = self.policy.table.default
        if by_route:
            with suppress(ForwardError):
                chain = self.chain(head)
        return chain.ask_origin(asked) or asked.response_edits


def compile_service_policy(
    told: dict[str, Any] | None, *, secret: bytes, before: CompiledPolicy | None
) -> CompiledPolicy | None:
    """The guard of a service, from the policy that its agent tells; None where every request passes as it is.

    Args:
        secret: random bytes that only this process has (see `compile_policy`).
        before: the guard that this one takes the place of.

    Raises:
        ConfigError: it cannot be enforced; the message begins with the place.
    """
    if told is None:
        return None
    asked = ServicePolicy.from_json(told)
    if (found := cost_error(asked)) is not None:
        place, message = found
        raise ConfigError(f"{'.'.join(map(str, place))}: {message}")
    limits: list[Middleware] = []
    max_body, upgrades = UNLIMITED, None
    if asked.max_request_body is not None:
        max_body = parse_byte_size(asked.max_request_body)
        limits.append(BodyLimit(max_body))
    if asked.max_websockets is not None or asked.max_websockets_per_client is not None:
        former = before.upgrades if before is not None else None
        upgrades = UpgradeLimit(asked.max_websockets, asked.max_websockets_per_client, former)
        limits.append(upgrades)
    if asked.traffic_shaping is not None and asked.traffic_shaping.per_ip_limit is not None:
        limits.append(RequireClientAddress())
    policy = compile_policy(
        asked.routes,
        secret=secret,
        global_middleware=asked.global_middleware,
        security=asked.security,
        limits=limits,
        before=before.policy if before is not None else None,
    )
    shaping = ServiceShaping.of(
        asked.traffic_shaping, before.shaping if before is not None else None
    )
    if shaping is None and not any(chain.handlers for chain in policy.table.choices):
        return None
    return CompiledPolicy(policy, max_body, upgrades, shaping)


def passed_head(head: RequestHead, passed: Request) -> RequestHead:
    """The request as its handlers want the backend to see it."""
    fields = head.fields
    if passed.edits:
        fields = replace(fields, lines=edit_lines(fields.lines, passed.edits))
    return RequestHead(head.method, passed.target, head.minor, fields)
