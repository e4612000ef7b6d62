"""Requests and responses of the admin API about people, sessions, tokens and links.

They follow the rules of `model.admin`. The secrets in responses, `url` and `secret`, are shown once
and stored nowhere; secrets in requests are in the body, never in a query.
"""

import re
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from zerotrust.model.admin import Number
from zerotrust.model.base import Duration, HostName, HostPattern, Model
from zerotrust.model.strict import Strict

MAX_HOSTS: Final = 64
MAX_TEXT: Final = 254
DAY: Final = 86400.0

_PIN: Final = re.compile(r"[0-9]{6,32}")


def parse_pin(pin: object) -> str:
    """Return a PIN.

    Raises:
        ValueError: it is not text of 6 to 32 digits. The message does not contain it.
    """
    text = pin.strip() if isinstance(pin, str) else ""
    if _PIN.fullmatch(text) is None:
        raise ValueError("a PIN has 6 to 32 digits")
    return text


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Pin = Annotated[str, BeforeValidator(parse_pin)]
Hosts = Annotated[list[HostPattern], Field(max_length=MAX_HOSTS)]


# ---- users and groups


class UserRequest(Strict):
    """Request about one user."""

    user: Text


class InviteRequest(Strict):
    """Request to invite a user, new or known, to register a passkey.

    With `signs_in` the link signs the user in once, without a passkey, for 10 minutes.
    """

    user: Text
    email: Text | None = None
    groups: Annotated[list[Text], Field(max_length=64)] = []
    signs_in: bool = False


class MemberRequest(Strict):
    """Request to add a user to a local group, or to remove a user from it."""

    group: Text
    user: Text


class CreatedInvitation(Model):
    """New invitation. `url` has its secret in the fragment."""

    user: str
    url: str = Field(repr=False)
    expires_at: int
    warnings: list[str] = []


class UserView(Model):
    """User of the server's file, the database or an identity provider.

    `source` is `file`, or `database` for users that commands or sign-ins have created. `groups` are
    those of file and database, and those that a provider has stated, with its name in front.
    `sign_ins` is the number of sign-ins in force. A user of the file has no `id` and `created_at`
    before the first invitation.
    """

    id: str
    user: str
    email: str | None
    shown_name: str
    source: Literal["file", "database"]
    state: Literal["enabled", "disabled"]
    groups: list[str]
    providers: list[str]
    passkeys: int
    sign_ins: int
    created_at: int | None
    disabled_at: int | None


class UserList(Model):
    """Users, sorted by name."""

    users: list[UserView]


class UserDetails(Model):
    """User with sign-ins and apps."""

    user: UserView
    sessions: "list[SignInView]"
    apps: "list[AccessTokenView]"


class UserResult(Model):
    """Result of disabling, enabling or removing a user: the number of sign-ins that ended."""

    user: str
    sign_ins: int
    warnings: list[str] = []


class GroupView(Model):
    """Group with its members. `named` is true if a rule, `admins` or `viewers` names the group."""

    group: str
    users: list[str]
    named: bool


class GroupList(Model):
    """Groups, sorted by name."""

    groups: list[GroupView]


class MemberResult(Model):
    """Result of a change of a group. `changed` is false if there was nothing to do."""

    group: str
    user: str
    changed: bool
    warnings: list[str] = []


# ---- sessions


class UserFilter(Strict):
    """Request about one user, or about all users if `user` is missing."""

    user: Text | None = None


class EndSessionRequest(Strict):
    """Request to end one sign-in by its number, or all sign-ins of a user."""

    number: Number | None = None
    user: Text | None = None


class SignInView(Model):
    """Sign-in of a user in one browser. `client` is the browser's address when it signed in."""

    number: int
    user: str
    method: str
    provider: str
    created_at: int
    seen_at: int
    proven_at: int
    ends_at: int
    client: str
    browser: str


class SignInList(Model):
    """Sign-ins in force, newest first."""

    sessions: list[SignInView]


class EndedSessions(Model):
    """Number of sign-ins that ended."""

    ended: int


# ---- tokens of machines and apps


class CreateMachineRequest(Strict):
    """Request for the token of a machine. Without `lifetime`, it has no end.

    `hosts` are the host names and wildcards that it is good for; without them, all whose rules
    allow the machine. With `admin`, it is also good for this API, at `/v1/` of `admin_host`.
    """

    name: Text
    hosts: Hosts = []
    admin: bool = False
    lifetime: Annotated[Duration, Field(ge=60)] | None = None


class CreateAppRequest(Strict):
    """Request for the token of a user's app; as `CreateMachineRequest`."""

    user: Text
    name: Text
    hosts: Hosts = []
    lifetime: Annotated[Duration, Field(ge=60)] | None = None


class AccessTokenRequest(Strict):
    """Request about all tokens of one name."""

    name: Text


class RotateRequest(Strict):
    """Request for a second token of a name. The first token ends after `keep`."""

    name: Text
    keep: Duration = DAY


class CreatedAccessToken(Model):
    """New token of a machine or app. `example` is a host name at which it is good."""

    id: str
    name: str
    secret: str = Field(repr=False)
    hosts: list[str]
    example: str | None
    expires_at: int | None
    warnings: list[str] = []


class AccessTokenView(Model):
    """Token of a machine or app. Two tokens have one name while one replaces the other.

    `user` is the owner of an app. Empty `hosts`: all host names whose rules allow it. `admin`: it
    is good for the admin API at `admin_host`.
    """

    id: str
    name: str
    user: str | None
    hosts: list[str]
    admin: bool = False
    created_at: int
    expires_at: int | None
    used_at: int | None


class AccessTokenList(Model):
    """Tokens in force."""

    tokens: list[AccessTokenView]


class RevokedAccessTokens(Model):
    """Number of tokens that were revoked."""

    name: str
    revoked: int


# ---- share links and PINs


class CreateLinkRequest(Strict):
    """Request for a link to a path and all below it.

    Everybody with the link may use it for `lifetime`, `uses` times at most, with the PIN if there
    is one.
    """

    url: Annotated[str, Field(min_length=1, max_length=2048)]
    lifetime: Annotated[Duration, Field(ge=60)] = DAY
    uses: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    pin: Pin | None = Field(default=None, repr=False)
    methods: Annotated[list[Text], Field(max_length=16)] = []


class LinkRequest(Strict):
    """Request about one link."""

    id: Text


class CreatedLink(Model):
    """New share link. `url` has its secret in the fragment."""

    id: str
    url: str = Field(repr=False)
    expires_at: int
    warnings: list[str] = []


class LinkView(Model):
    """Share link in force. `pin` is true if it has a PIN; `uses_left` is null without a limit."""

    id: str
    host: str
    path: str
    methods: list[str]
    created_by: str
    created_at: int
    expires_at: int
    uses_left: int | None
    pin: bool


class LinkList(Model):
    """Share links in force."""

    links: list[LinkView]


class RevokedLink(Model):
    """Number of passes that ended with a link."""

    id: str
    passes: int


class SetPinRequest(Strict):
    """Request to set the PIN of a host name."""

    host: HostName
    pin: Pin = Field(repr=False)


class PinRequest(Strict):
    """Request about the PIN of one host name."""

    host: HostName


class PinView(Model):
    """Host name with a PIN."""

    host: str
    set_at: int


class PinList(Model):
    """Host names with a PIN, sorted."""

    pins: list[PinView]


class PinResult(Model):
    """Result of setting or clearing a PIN. `changed` is false if there was none to clear."""

    host: str
    changed: bool
    warnings: list[str] = []


# ---- rules


class HostAccessView(Model):
    """Access to a host name or wildcard, in words."""

    host: str
    who: str


class HostAccessList(Model):
    """Access to each host name, and at last to all others.

    `auth_url` is the address of the sign-in pages, `device_lifetime` the seconds for which a paired
    device stays signed in.
    """

    hosts: list[HostAccessView]
    auth_url: str
    device_lifetime: int


class ExplainRequest(Strict):
    """Request for the verdict about a request of a user, machine or app, or of a stranger.

    `provider` is the identity provider at which the user has signed in (default: by passkey, if the
    user has one), and `proven` the time since the last proof of identity.
    """

    url: Annotated[str, Field(min_length=1, max_length=2048)]
    user: Text | None = None
    machine: Text | None = None
    app: Text | None = None
    provider: Text | None = None
    proven: Duration = 0.0
    ip: Text | None = None
    method: Text = "GET"


class StepView(Model):
    """Step of a verdict.

    `place` is a place in the section `access`. `held` is null for facts. `failed` are the keys of
    a condition that do not hold.
    """

    place: str
    text: str
    held: bool | None
    failed: list[str]


class ExplanationView(Model):
    """Verdict with its steps, in order. If `verdict` is `error`, the request gets `error`."""

    host: str
    verdict: Literal["allow", "sign_in", "prove_again", "deny", "error"]
    reason: str
    error: str
    steps: list[StepView]
