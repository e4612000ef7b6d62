"""CPU time of the costliest accepted policies on the server's event loop.

A policy comes from an agent and a request from a stranger; while the server applies one to the
other, it serves no other request. For each kind of rule and middleware there is the largest policy
that a server accepts.
"""

import json
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, Final

from joserfc import jwt
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

from benchmarks.environment import Environment
from benchmarks.metrics import Metric, alone
from zerotrust.errors import ConfigError, ForwardError
from zerotrust.http.head import (
    MAX_REQUEST_FIELDS,
    MAX_REQUEST_HEAD_BYTES,
    RequestHead,
    parse_request,
)
from zerotrust.middleware.header_edits import edit_block
from zerotrust.middleware.interface import Request
from zerotrust.middleware.policy_cost import cost_error
from zerotrust.model.policy import ServicePolicy
from zerotrust.routing.match import MAX_PATH_BYTES
from zerotrust.routing.query import MAX_PARAMETERS, MAX_QUERY_BYTES
from zerotrust.server.agents.service_policy import (
    CompiledPolicy,
    compile_service_policy,
    passed_head,
)
from zerotrust.tunnel.frames import MAX_PAYLOAD

_REPEATS: Final = 5
_MOST_ENTRIES: Final = 16_384
_OTHER_BYTES: Final = 500
"""Bytes of a registration besides the policy."""

Policy = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Policies of one kind that grow with a number, and header fields that make them costly."""

    name: str
    policy: Callable[[int], Policy]
    field: Callable[[int], bytes] = lambda number: b"X-A: x%04d" % number


def is_accepted(told: Policy) -> bool:
    """Return whether a server accepts a policy."""
    try:
        return (
            len(json.dumps(told)) <= MAX_PAYLOAD - _OTHER_BYTES
            and cost_error(ServicePolicy.from_json(told)) is None
        )
    except ConfigError:
        return False


@cache
def largest(case: Case) -> int:
    """Return the number of the largest policy of a kind that is accepted."""
    return bisect_left(
        range(_MOST_ENTRIES), True, key=lambda number: not is_accepted(case.policy(number + 1))
    )


def largest_guard(case: Case) -> CompiledPolicy:
    """Return the largest policy of a kind that is accepted, compiled."""
    guard = compile_service_policy(case.policy(largest(case)), secret=b"s" * 32, before=None)
    assert guard is not None
    return guard


def held(guard: CompiledPolicy, head: RequestHead, client: bytes) -> float:
    """Apply a policy to a request; return the seconds of CPU that this took."""
    begun_at = time.thread_time()
    try:
        chain = guard.chain(head)
        asked = Request(head, client=client, unix_time=time.time())
        if chain.run(asked, time.monotonic()) is None:
            passed_head(head, asked)
            edit_block(b"HTTP/1.1 200 OK\r\n", asked.response_edits)
    except ForwardError:
        pass
    return time.thread_time() - begun_at


def worst_heads(case: Case, number: int) -> Iterator[RequestHead]:
    """Yield requests that are costly for a kind; no two share a query or a field."""
    fields = b"".join(
        case.field(number * MAX_REQUEST_FIELDS + index) + b"\r\n"
        for index in range(MAX_REQUEST_FIELDS - 8)
    )
    if len(fields) > MAX_REQUEST_HEAD_BYTES // 2:
        fields = case.field(number) + b"\r\n"
    each = MAX_QUERY_BYTES // MAX_PARAMETERS
    query = b";".join(
        b"a=+" + b"%2561" * ((each - 8) // 5) + b"%04d" % index
        for index in range(number, number + 250)
    )
    for path in (
        b"/" + b"a" * (MAX_PATH_BYTES - 1),
        b"/;/" + b"a" * (MAX_PATH_BYTES // 2 - 4),
        b"/;/" + b"%41" * ((MAX_PATH_BYTES - 3) // 3),
        b"/;/" + b"%252541" * ((MAX_PATH_BYTES - 3) // 7),
        b"/" + b"%252f%41" * ((MAX_PATH_BYTES - 3) // 11),
        b"/" + b"%u0041%2541" * 90,
    ):
        yield parse_request(b"GET %b?%b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path, query, fields))


def _handlers(kind: str, config: Callable[[int], dict[str, Any]]) -> Callable[[int], Policy]:
    """Return policies of this middleware by number: 64 in the global list, others in the route."""

    def policy(number: int) -> Policy:
        listed = [{"type": kind, "config": config(index)} for index in range(number)]
        return {
            "global_middleware": listed[:64],
            "routes": [{"match": {"path": "/*a*"}, "handle": listed[64:]}, {}],
        }

    return policy


def _routes(match: Callable[[int], dict[str, Any]]) -> Callable[[int], Policy]:
    return lambda number: {"routes": [{"match": match(index)} for index in range(number)]}


_KEY: Final = ECKey.generate_key("P-384")
_TOKEN: Final = {
    "algorithm": "ES384",
    "key": _KEY.as_pem(private=False).decode(),
    "audience": ["x"] * 15 + ["us"],
}
_REGISTRY: Final = JWSRegistry(algorithms=["ES384"])


def _token(number: int) -> bytes:
    claims = {"exp": 2**33, "jti": str(number), "aud": ["a"] * 1300 + ["us"]}
    return (
        b"Authorization: Bearer "
        + jwt.encode({"alg": "ES384"}, claims, _KEY, registry=_REGISTRY).encode()
    )


CASES: Final = (
    Case("paths", _routes(lambda i: {"path": f"/a{i}/*"})),
    Case("paths with pieces", _routes(lambda i: {"path": f"/*{'a' * 20}b{i}*"})),
    Case("paths with many pieces", _routes(lambda i: {"path": "/" + "*a" * 200 + f"*b{i}*"})),
    Case("queries", _routes(lambda i: {"path": f"*a{i}", "query": {"a": f"x{i}"}})),
    Case("fields", _routes(lambda i: {"path": "/*", "headers": {"x-a": [f"{i}*", f"y{i}"]}})),
    Case(
        "values",
        lambda number: {
            "routes": [{"match": {"headers": {"x-a": [str(i) for i in range(number)]}}}]
        },
    ),
    Case(
        "headers",
        _handlers("headers", lambda i: {"request": {"delete": [f"x{j}" for j in range(60)]}}),
    ),
    Case(
        "rate_limit", _handlers("rate_limit", lambda i: {"rate": "999999/s", "key": "header:x-a"})
    ),
    Case(
        "ip_deny",
        _handlers(
            "ip_deny", lambda i: {"denied_ips": [f"fe{j:02x}::/{17 + j}" for j in range(40)]}
        ),
    ),
    Case(
        "cors",
        _handlers("cors", lambda i: {"origins": ["https://*.x"], "expose_headers": ["a"]}),
        lambda number: b"Origin: https://" + b"a." * 118 + b"a%04d.x" % (number % 10_000),
    ),
    Case("jwt", _handlers("jwt", lambda i: _TOKEN), _token),
    Case(
        "jwt in a cookie",
        _handlers("jwt", lambda i: {**_TOKEN, "cookie": "t", "query": "t"}),
        lambda number: b"Cookie: " + b"a=b;" * 255 + b"a=%d" % number,
    ),
    Case("rewrite", _handlers("rewrite", lambda i: {"replace_prefix": {"/": "/a"}})),
    Case(
        "rewrite, with many rules",
        lambda number: {
            "global_middleware": [
                {
                    "type": "rewrite",
                    "config": {"replace_prefix": {f"/a{i}": "/b" for i in range(number)}},
                }
            ]
        },
    ),
    Case(
        "redirect",
        lambda number: {
            "routes": [
                {
                    "handle": [
                        {
                            "type": "redirect",
                            "config": {"location": "https://{host}" + "{uri}" * number},
                        }
                    ]
                }
            ]
        },
    ),
    Case(
        "some of all",
        lambda number: {
            "global_middleware": [
                {"type": "rewrite", "config": {"replace_prefix": {"/": "/a"}}},
                {"type": "cors", "config": {"origins": ["https://*.x"]}},
                {"type": "rate_limit", "config": {"rate": "999999/s", "key": "header:x-a"}},
            ],
            "routes": [
                {
                    "match": {
                        "path": f"/*a{i}*",
                        "query": {"a": f"x{i}"},
                        "headers": {"x-a": f"x{i}"},
                    }
                }
                for i in range(number)
            ],
        },
    ),
)


async def costliest(environment: Environment, title: str) -> list[Metric]:
    """Measure the longest time of a policy on the loop, in each round."""
    guards = [(case, largest_guard(case)) for case in CASES]
    numbers = count()
    longest = [
        max(_median(case, guard, numbers) for case, guard in guards)
        for _ in range(environment.options.rounds)
    ]
    return [alone(title, "loop held", "ms", [seconds * 1e3 for seconds in longest])]


def _median(case: Case, guard: CompiledPolicy, numbers: Iterator[int]) -> float:
    """Return the longest time of a request; for each kind, the median of similar requests."""
    rows = []
    for _ in range(_REPEATS):
        number = next(numbers)
        rows.append(
            [held(guard, head, b"ffff:%x::1" % number) for head in worst_heads(case, number)]
        )
    return float(max(statistics.median(same) for same in zip(*rows, strict=True)))
