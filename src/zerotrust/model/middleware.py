"""Handlers as a configuration names them: `{type: rate_limit, config: {rate: "1000/minute"}}`.

There is one model per type. The models of `config` are in `middleware_settings` and
`authentication`; the implementations are in `zerotrust.middleware`.
"""

import difflib
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from zerotrust.model.authentication import BasicAuthConfig, JwtConfig
from zerotrust.model.base import Model
from zerotrust.model.middleware_settings import (
    CorsConfig,
    HeadersConfig,
    IpAllowConfig,
    IpDenyConfig,
    RateLimitConfig,
    RedirectConfig,
    RespondConfig,
    RewriteConfig,
)
from zerotrust.model.service_access import AccessRequireConfig
from zerotrust.model.strict import Strict


class ReverseProxy(Strict):
    """Sends the request to a backend.

    This always happens after the other handlers, so the entry may be omitted.
    """

    type: Literal["reverse_proxy"] = "reverse_proxy"
    config: dict[str, Any] = {}


class Headers(Strict):
    """Sets, adds and deletes headers of requests and responses."""

    type: Literal["headers"] = "headers"
    config: HeadersConfig


class RateLimit(Strict):
    """Limits the rate of requests: excess requests get 429 with `Retry-After`."""

    type: Literal["rate_limit"] = "rate_limit"
    config: RateLimitConfig


class IpAllow(Strict):
    """Allows only listed client addresses; others get 403. `ip_whitelist` is its older name."""

    type: Literal["ip_allow", "ip_whitelist"] = "ip_allow"
    config: IpAllowConfig


class IpDeny(Strict):
    """Refuses listed client addresses with 403."""

    type: Literal["ip_deny"] = "ip_deny"
    config: IpDenyConfig


class Cors(Strict):
    """Answers preflight requests and sets the `Access-Control-*` headers of responses."""

    type: Literal["cors"] = "cors"
    config: CorsConfig


class BasicAuth(Strict):
    """Requires a user name and a password (RFC 7617)."""

    type: Literal["basic_auth"] = "basic_auth"
    config: BasicAuthConfig


class Jwt(Strict):
    """Requires a signed token (RFC 7519)."""

    type: Literal["jwt"] = "jwt"
    config: JwtConfig


class AccessRequire(Strict):
    """Lets in only users, machines and apps that the server knows and that meet conditions.

    It narrows the rules of the server (`access` in its file).
    """

    type: Literal["access"] = "access"
    config: AccessRequireConfig


class Redirect(Strict):
    """Redirects the client."""

    type: Literal["redirect"] = "redirect"
    config: RedirectConfig


class Respond(Strict):
    """Returns a fixed response without asking the backend."""

    type: Literal["respond"] = "respond"
    config: RespondConfig


class Rewrite(Strict):
    """Changes the path for the backend; the query stays."""

    type: Literal["rewrite"] = "rewrite"
    config: RewriteConfig


_MODELS: Final[dict[str, type[Strict]]] = {
    kind: model
    for model in (
        Headers,
        RateLimit,
        IpAllow,
        IpDeny,
        Cors,
        BasicAuth,
        Jwt,
        AccessRequire,
        Redirect,
        Respond,
        Rewrite,
        ReverseProxy,
    )
    for kind in model.model_fields["type"].annotation.__args__  # type: ignore[union-attr]
}
KINDS: Final = tuple(_MODELS)

_REFUSED: Final = {
    "cache": "handler type cache is not supported; let the backend cache",
    "auth": 'unknown handler type "auth"; use basic_auth or jwt',
    "oauth2": "handler type oauth2 is not supported; use jwt with the issuer's jwks_url",
    "ip_blacklist": 'unknown handler type "ip_blacklist", did you mean "ip_deny"?',
}


def _known(value: str) -> str:
    kind = value.strip().lower().replace("-", "_")
    if kind in _REFUSED:
        raise ValueError(_REFUSED[kind])
    if kind not in _MODELS:
        near = difflib.get_close_matches(kind, [*KINDS, "cache"], n=1)
        raise ValueError(
            f'unknown handler type "{kind[:60]}"'
            + (f', did you mean "{near[0]}"?' if near else "; remove it")
        )
    return kind


class _Kind(Model):
    type: Annotated[str, AfterValidator(_known)]


def _typed(value: object) -> object:
    """Return the model for the handler's `type`.

    Validating with that model keeps the places of errors those of the file.
    """
    if not isinstance(value, dict):
        return value
    kind = _Kind.model_validate(value).type
    return _MODELS[kind].model_validate({**value, "type": kind})


Handler = Annotated[
    ReverseProxy
    | Headers
    | RateLimit
    | IpAllow
    | IpDeny
    | Cors
    | BasicAuth
    | Jwt
    | AccessRequire
    | Redirect
    | Respond
    | Rewrite,
    Field(discriminator="type"),
    BeforeValidator(_typed),
]
"""One step in the handling of a request."""


def _authentication(value: object) -> object:
    if isinstance(value, dict) and value.get("type") in ("basic", "basic-auth"):
        value = {**value, "type": "basic_auth"}
    handler = _typed(value)
    if isinstance(handler, Strict) and not isinstance(handler, (BasicAuth, Jwt)):
        raise ValueError("type must be basic_auth or jwt")
    return handler


Authentication = Annotated[
    BasicAuth | Jwt, Field(discriminator="type"), BeforeValidator(_authentication)
]
"""A handler that authenticates the client."""

MAX_HANDLERS: Final = 64
"""Maximum handlers in one list. Their total cost has a limit of its own
(`zerotrust.middleware.policy_cost`)."""

FINAL: Final = (Redirect, Respond)
"""Handlers that answer every request: a handler after them is never reached."""
