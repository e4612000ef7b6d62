"""Conditions of access, and lists of them."""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from zerotrust.model.access_names import (
    UNKNOWN_COUNTRY,
    Country,
    EmailAddress,
    EmailDomain,
    GroupReference,
    OneOrMany,
    ProviderName,
    TokenPattern,
    Until,
    UserReference,
)
from zerotrust.model.network import Network
from zerotrust.model.path_pattern import PathPattern
from zerotrust.model.strict import Strict

MAX_VALUES: Final = 256
MAX_CONDITIONS: Final = 64

_MANY: Final = Field(min_length=1, max_length=MAX_VALUES)

UserNames = Annotated[list[UserReference], OneOrMany, _MANY]
GroupNames = Annotated[list[GroupReference], OneOrMany, _MANY]
EmailAddresses = Annotated[list[EmailAddress], OneOrMany, _MANY]
EmailDomains = Annotated[list[EmailDomain], OneOrMany, _MANY]
ProviderNames = Annotated[list[ProviderName], OneOrMany, _MANY]
ClaimValues = Annotated[list[str], OneOrMany, _MANY]
TokenPatterns = Annotated[list[TokenPattern], OneOrMany, _MANY]
AddressesOrNetworks = Annotated[list[Network], OneOrMany, _MANY]
Countries = Annotated[list[Country], OneOrMany, _MANY]

OF_USERS: Final = ("user", "group", "email", "email_domain", "provider", "claim", "signed_in")
"""Keys that hold for users alone, and for apps in the place of their users."""

OF_SUBJECTS: Final = (*OF_USERS, "machine", "app", "pin", "method")
"""Keys about the subject of a request; the others are about its circumstances."""


class Condition(Strict):
    """A condition on the subject of a request or on its circumstances.

    All keys of a condition must hold; of a list of conditions, one is enough. Where a key has a
    list, one of its values is enough.
    """

    user: UserNames | None = None
    """Name of a user."""

    group: GroupNames | None = None
    """Name of a group. Groups of an identity provider have its name in front, `google/family`."""

    email: EmailAddresses | None = None
    """Verified email address."""

    email_domain: EmailDomains | None = None
    """Domain of a verified email address: the part behind its only `@`."""

    provider: ProviderNames | None = None
    """Identity provider that the user has signed in with."""

    claim: Annotated[dict[str, ClaimValues], Field(min_length=1, max_length=16)] | None = None
    """Claims of the identity provider, by name. All of them must have one of their values."""

    machine: TokenPatterns | None = None
    """Name of a machine token, or a pattern such as `ci-*`."""

    app: TokenPatterns | None = None
    """Name of an app token, or a pattern. Users name their apps: add `user` or `group`."""

    pin: Literal[True] | None = None
    """The visitor has entered the PIN of the host name."""

    signed_in: Literal[True] | None = None
    """A user has signed in, or an app of theirs acts for them."""

    anyone: Literal[True] | None = None
    """Everybody, without signing in."""

    ip: AddressesOrNetworks | None = None
    """Network of the client."""

    country: Countries | None = None
    """Country of the client, ISO 3166-1 alpha-2. Needs `geo`. A client whose country is unknown
    fails it; in `deny`, `unknown` stands for these clients."""

    method: Literal["passkey"] | None = None
    """The way in which the user has signed in."""

    until: Until | None = None
    """Last day, or moment, at which the condition holds. Days end at midnight UTC, and moments
    without a time zone are in UTC."""

    path: PathPattern | None = None
    """Path pattern, as in routes. Where backends may read a path in several ways, and only some of
    them match, the request gets 400."""

    @model_validator(mode="after")
    def _can_hold(self) -> "Condition":
        given = self.given
        if not given:
            raise ValueError("is empty: write a condition such as group: family, or anyone: true")
        alone = next((key for key in ("anyone", "machine", "pin") if key in given), None)
        beside = [key for key in OF_SUBJECTS if key in given and key != alone]
        if alone is not None and beside:
            raise ValueError(
                f"{alone} and {beside[0]} in one condition never hold together: write two"
                f" conditions, [{{ {alone}: … }}, {{ {beside[0]}: … }}]"
            )
        return self

    @property
    def given(self) -> dict[str, Any]:
        """Return the keys that the condition has, with their values."""
        return {
            key: value
            for key in type(self).model_fields
            if (value := getattr(self, key)) is not None
        }

    @property
    def names_subjects(self) -> bool:
        """Return True if the condition is about the subject, so that it needs a credential."""
        return any(getattr(self, key) is not None for key in OF_SUBJECTS)


def _with_keys(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(
            f'"{value[:80]}" is no condition: say what it names, as in {{ group: NAME }}'
        )
    return value


Conditions = Annotated[
    list[Annotated[Condition, BeforeValidator(_with_keys)]], Field(max_length=MAX_CONDITIONS)
]

AllowWord = Literal["anyone", "nobody", "signed_in"]


def _form(value: Any) -> str:
    return "words" if isinstance(value, str) else "conditions"


def _not_empty(value: Any) -> Any:
    if isinstance(value, list) and not value:
        raise ValueError("is empty: write allow: nobody")
    return value


Allow = Annotated[
    Annotated[AllowWord, Tag("words")] | Annotated[Conditions, Tag("conditions")],
    Discriminator(_form),
    BeforeValidator(_not_empty),
]
"""Conditions, of which one must hold; or one word."""


def alternatives(allow: Allow) -> list[Condition]:
    """Return the conditions of `allow`; a word becomes one condition, `nobody` none."""
    if isinstance(allow, list):
        return allow
    return [] if allow == "nobody" else [Condition.model_validate({allow: True})]


def check_allow(allow: Allow, key: str = "allow") -> None:
    """Refuse conditions that let everybody in without saying so.

    Raises:
        ValueError: a condition has no subject and no network, or asks for the unknown country.
    """
    for number, condition in enumerate(alternatives(allow)):
        if not condition.given.keys() - {"until", "path"}:
            raise ValueError(
                f"{key}[{number}] says when or where, but not who: add a condition such as group:"
                " family, or anyone: true"
            )
    if isinstance(allow, list):
        refuse_unknown_country(allow, key)


def refuse_unknown_country(conditions: list[Condition], key: str) -> None:
    """Refuse `unknown` outside `deny`: a client without a known country fails the condition.

    Raises:
        ValueError: a condition has it.
    """
    for number, condition in enumerate(conditions):
        if UNKNOWN_COUNTRY in (condition.country or ()):
            raise ValueError(
                f"{key}[{number}]: country: unknown never holds in {key}; it is for deny"
            )
