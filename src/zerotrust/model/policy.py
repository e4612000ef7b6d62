"""Policy of a service: the part of its configuration that the server enforces.

The agent sends it with the registration, as JSON. The server accepts a policy completely or refuses
the service: an unknown key may be a protection that a newer agent relies on.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Self

from pydantic import BaseModel, Field, ValidationError

from zerotrust.errors import ConfigError
from zerotrust.model.authentication import JwtConfig, KeySource
from zerotrust.model.base import Duration
from zerotrust.model.condition import Condition
from zerotrust.model.middleware import MAX_HANDLERS, AccessRequire, Handler
from zerotrust.model.rates import ByteSize
from zerotrust.model.service import MAX_ROUTES, Route, Service, ServiceSecurity, TrafficShaping
from zerotrust.model.service_access import ServiceAccess
from zerotrust.model.strict import Strict
from zerotrust.model.websocket_limits import WebSocketLimits

_NO_KEYS: Final[Mapping[KeySource, Mapping[str, Any]]] = MappingProxyType({})


class ServicePolicy(Strict):
    """The part of a service's configuration that the server enforces."""

    global_middleware: list[Handler] = Field(default=[], max_length=MAX_HANDLERS)
    """Handlers in the agent's file for all its services."""

    security: ServiceSecurity | None = None
    """Cross-origin rules and authentication for all routes."""

    access: ServiceAccess | None = None
    """Access to the service, with statements about the user to the backend."""

    routes: list[Route] = Field(default=[], max_length=MAX_ROUTES)
    """A request that matches no route gets 404; without routes, all requests pass."""

    max_request_body: ByteSize | None = None
    """The same as in `Service`, like the keys below."""

    max_websockets: int | None = Field(default=None, ge=1)
    max_websockets_per_client: int | None = Field(default=None, ge=1)
    max_websockets_per_user: int | None = Field(default=None, ge=1)
    websocket_idle_timeout: Duration | None = None
    websocket_max_duration: Duration | None = None
    websocket_limits: WebSocketLimits | None = None
    traffic_shaping: TrafficShaping | None = None

    @classmethod
    def from_service(cls, service: Service, global_middleware: Sequence[Handler]) -> Self | None:
        """Return the policy of a service; None if it has no rules."""
        policy = cls(
            global_middleware=list(global_middleware),
            security=service.security,
            access=service.access,
            routes=service.routes or _redirect_routes(service),
            max_request_body=service.max_request_body,
            max_websockets=service.max_websockets,
            max_websockets_per_client=service.max_websockets_per_client,
            max_websockets_per_user=service.max_websockets_per_user,
            websocket_idle_timeout=service.websocket_idle_timeout or None,
            websocket_max_duration=service.websocket_max_duration or None,
            websocket_limits=service.websocket_limits,
            traffic_shaping=service.traffic_shaping,
        )
        return policy if policy != cls() else None

    @property
    def key_sources(self) -> frozenset[KeySource]:
        """Return the sources of the JSON Web Keys that the policy needs."""
        return frozenset(_key_sources(self))

    @property
    def conditions(self) -> list[Condition]:
        """Return all conditions of access, which the server needs the capability `access` for."""
        found = [] if self.access is None else list(self.access.require)
        for handlers in (self.global_middleware, *(route.handle for route in self.routes)):
            for handler in handlers:
                if isinstance(handler, AccessRequire):
                    found += handler.config.require
        return found

    @property
    def limits_upgrades(self) -> bool:
        """Return True if the number of concurrent upgraded connections is limited."""
        limits = (
            self.max_websockets,
            self.max_websockets_per_client,
            self.max_websockets_per_user,
        )
        return any(limit is not None for limit in limits)

    @property
    def needs_access(self) -> bool:
        """Return True if only a server with the capability `access` can enforce the policy."""
        return self.access is not None or bool(self.conditions)

    def to_json(self, keys: Mapping[KeySource, Mapping[str, Any]] = _NO_KEYS) -> dict[str, Any]:
        """Return the policy as JSON values, without keys that the file does not set.

        Args:
            keys: JWKS documents that were fetched. They replace their `jwks_url`.
        """
        values: dict[str, Any] = _to_json(self, keys)
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the policy that an agent sent. The values are untrusted.

        Raises:
            ConfigError: not a policy, or an unknown key; the message begins with the place.
        """
        try:
            policy = cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"])
            raise ConfigError(f"{where}: {first['msg']}") from None
        for where in _unknown(policy, ""):
            raise ConfigError(
                f"{where}: unknown key; this server may be older than the agent: update the server"
            )
        return policy


def _redirect_routes(service: Service) -> list[Route]:
    return [Route(handle=[service.redirect])] if service.redirect is not None else []


def _to_json(value: Any, keys: Mapping[KeySource, Mapping[str, Any]]) -> Any:
    if isinstance(value, JwtConfig) and value.key_source is not None and value.key_source in keys:
        value = value.model_copy(update={"jwks": keys[value.key_source], "jwks_url": None})
    if isinstance(value, BaseModel):
        known = type(value).model_fields
        given = ((name, getattr(value, name)) for name in known if name in value.model_fields_set)
        return {name: _to_json(item, keys) for name, item in given if item is not None}
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [_to_json(item, keys) for item in value]
    return (
        {key: _to_json(item, keys) for key, item in value.items()}
        if isinstance(value, dict)
        else value
    )


def _key_sources(value: Any) -> Iterator[KeySource]:
    if isinstance(value, JwtConfig) and value.key_source is not None:
        yield value.key_source
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _key_sources(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from _key_sources(item)


def _unknown(value: Any, where: str) -> Iterator[str]:
    """Yield the places of keys that no model knows."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or ():
            yield f"{where}{name}"
        for name in value.model_fields_set & set(type(value).model_fields):
            yield from _unknown(getattr(value, name), f"{where}{name}.")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, f"{where}{index}.")
