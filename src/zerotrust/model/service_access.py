"""Access to one service: the section `access` of a service in the agent's file.

It may narrow what the rules of the server allow, and never widens it.
"""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from zerotrust.model.access_names import OneOrMany
from zerotrust.model.condition import Conditions, refuse_unknown_country
from zerotrust.model.fields import FieldName, refuse_request_field
from zerotrust.model.strict import Strict

_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]{1,253}(?::[0-9]{1,5})?")
_CLAIM: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")


def _identity_field(value: str) -> str:
    refuse_request_field(value)
    return value


def _claim(value: str) -> str:
    if _CLAIM.fullmatch(value) is None:
        raise ValueError(f'invalid claim "{value[:60]}": write for example email')
    return value


def _origin(value: str) -> str:
    text = value.strip().lower().removesuffix("/")
    if _ORIGIN.fullmatch(text) is None:
        raise ValueError(f'invalid origin "{value[:80]}": write https://app.example.com')
    return text


Origin = Annotated[str, AfterValidator(_origin)]
"""Origin of a page: scheme, host and port, in lower case."""

IdentityFields = Annotated[
    dict[
        Annotated[FieldName, AfterValidator(_identity_field)],
        Annotated[str, AfterValidator(_claim)],
    ],
    Field(min_length=1, max_length=32),
]
"""Names of header fields, each with the claim that it has as value."""


IdentityHeaders = Annotated[
    Annotated[Literal["remote_user", "auth_request", "webauth"], Tag("style")]
    | Annotated[IdentityFields, Tag("fields")],
    Discriminator(lambda value: "fields" if isinstance(value, dict) else "style"),
]
"""A style of header fields, or their names with claims."""


Inspection = Literal["never", "metadata", "payload"]


class ServiceIdentity(Strict):
    """Statements about the user in requests to the backend.

    The server removes all copies of these header fields that a client has sent.
    """

    jwt: bool = True
    """Add `X-0Trust-Jwt-Assertion`, a signed token. Its keys are at
    `/.well-known/0trust/jwks.json`."""

    headers: IdentityHeaders | None = None
    """Add header fields, for backends that verify no token: `remote_user` (`Remote-User`, `-Email`,
    `-Name`, `-Groups`), `auth_request` (`X-Auth-Request-User`, …), `webauth` (`X-WEBAUTH-USER`, …),
    or names of fields with claims: `{X-User: email}`. Let no one else reach a backend that trusts
    them."""

    encoding: Literal["rfc2047", "url"] = "rfc2047"
    """Encoding of characters outside ASCII in these fields: `=?utf-8?…?=`, or percent-encoded."""


class ServiceAccess(Strict):
    """Access to one service, in addition to the rules of the server."""

    require: Conditions = []
    """Conditions that all must hold. A server without sign-in (`access`) refuses to publish a
    service whose conditions need it."""

    identity: ServiceIdentity = ServiceIdentity()
    """Statements about the user in requests to the backend."""

    origins: Annotated[list[Origin], OneOrMany, Field(max_length=64)] = []
    """Origins whose pages may open WebSockets with a cookie. Default: the host name of the service
    alone."""

    inspection: Inspection = "metadata"
    """Most that the server's inspector of WebSockets may show: nothing, counts and sizes, or
    messages. With `payload`, administrators of the server may capture messages, each time with a
    reason and for 10 minutes at most."""

    @model_validator(mode="after")
    def _can_hold(self) -> "ServiceAccess":
        refuse_unknown_country(self.require, "require")
        return self


class AccessRequireConfig(Strict):
    """Settings of the handler `access`."""

    require: Annotated[Conditions, Field(min_length=1)]
    """Conditions that all must hold."""

    @model_validator(mode="after")
    def _can_hold(self) -> "AccessRequireConfig":
        refuse_unknown_country(self.require, "require")
        return self
