"""What a server does with the requests of a service before they enter the tunnel, as an agent tells it.

The server takes all of it or nothing. A key that it does not know may be a protection that a newer agent relies on, so
it refuses the whole service instead of publishing it with less than its owner asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Self

from pydantic import BaseModel, Field, ValidationError

from zerotrust.errors import ConfigError
from zerotrust.model.authentication import JwtConfig, KeySource
from zerotrust.model.middleware import MAX_HANDLERS, Handler
from zerotrust.model.rates import ByteSize
from zerotrust.model.service import MAX_ROUTES, Route, Service, ServiceSecurity, TrafficShaping
from zerotrust.model.strict import Strict

_NO_KEYS: Final[Mapping[KeySource, Mapping[str, Any]]] = MappingProxyType({})


class ServicePolicy(Strict):
    """The part of a service's configuration that the server enforces."""

    global_middleware: list[Handler] = Field(default=[], max_length=MAX_HANDLERS)
    """Handlers of the agent's file for all its services."""

    security: ServiceSecurity | None = None
    """What stands in front of all routes."""

    routes: list[Route] = Field(default=[], max_length=MAX_ROUTES)
    """Requests that no route takes get a 404; without routes, all go through."""

    max_request_body: ByteSize | None = None
    """As in `Service`, like those below."""

    max_websockets: int | None = Field(default=None, ge=1)
    max_websockets_per_client: int | None = Field(default=None, ge=1)
    traffic_shaping: TrafficShaping | None = None

    @classmethod
    def of(cls, service: Service, global_middleware: Sequence[Handler]) -> Self | None:
        """The policy of a service; None where it asks for nothing."""
        policy = cls(
            global_middleware=list(global_middleware),
            security=service.security,
            routes=service.routes,
            max_request_body=service.max_request_body,
            max_websockets=service.max_websockets,
            max_websockets_per_client=service.max_websockets_per_client,
            traffic_shaping=service.traffic_shaping,
        )
        return policy if policy != cls() else None

    @property
    def key_sources(self) -> frozenset[KeySource]:
        """Where keys for it are to be fetched."""
        return frozenset(_key_sources(self))

    def told(self, keys: Mapping[KeySource, Mapping[str, Any]] = _NO_KEYS) -> dict[str, Any]:
        """The policy as JSON values, without what the file left out or nobody knows.

        Args:
            keys: JWKS documents that were fetched; they are told instead of where they are from.
        """
        told: dict[str, Any] = _told(self, keys)
        return told

    @classmethod
    def read(cls, told: dict[str, Any]) -> Self:
        """The policy that an agent tells, which may be anything.

        Raises:
            ConfigError: it is none, or has a key that is not known; the message begins with the place.
        """
        try:
            policy = cls.model_validate(told)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"])
            raise ConfigError(f"{where}: {first['msg']}") from None
        for where in _unknown(policy, ""):
            raise ConfigError(f"{where}: not known to this server, which may be older than the agent")
        return policy


def _told(value: Any, keys: Mapping[KeySource, Mapping[str, Any]]) -> Any:
    if isinstance(value, JwtConfig) and value.key_source is not None and value.key_source in keys:
        value = value.model_copy(update={"jwks": keys[value.key_source], "jwks_url": None})
    if isinstance(value, BaseModel):
        known = type(value).model_fields
        said = ((name, getattr(value, name)) for name in known if name in value.model_fields_set)
        return {name: _told(item, keys) for name, item in said if item is not None}
    if isinstance(value, (list, tuple)):
        return [_told(item, keys) for item in value]
    return {key: _told(item, keys) for key, item in value.items()} if isinstance(value, dict) else value


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
    """The places of keys that no model knows."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or ():
            yield f"{where}{name}"
        for name in value.model_fields_set & set(type(value).model_fields):
            yield from _unknown(getattr(value, name), f"{where}{name}.")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, f"{where}{index}.")
