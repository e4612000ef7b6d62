"""Base of the admin API about access, and the parts of the server that it asks."""

from collections.abc import Callable
from typing import Protocol

from zerotrust.access.gate_table import GateTable
from zerotrust.errors import UserUnknown
from zerotrust.model.service_access import ServiceAccess
from zerotrust.net.json_api import CallError
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.access_tokens import AccessTokens
from zerotrust.server.access.people import People, UserInfo
from zerotrust.server.access.share_links import ShareLinks
from zerotrust.server.access.sign_ins import SignIns
from zerotrust.server.ops.access_advice import did_you_mean


class AccessOffError(CallError):
    """The server's file has no section `access`."""

    code = "access_off"

    def __init__(self) -> None:
        super().__init__(
            "the server's file has no section `access`, so it asks no visitor to sign in; begin"
            " with: access: {auth_host: auth.example.com, rules: [{hosts: [photos.example.com],"
            " allow: signed_in}]}; then host names without a rule are closed",
            409,
        )


class AccessParts(Protocol):
    """The parts of a server that decide about access (`server.access_service`)."""

    @property
    def state(self) -> AccessState:
        """Database, credentials in force, and the section `access` of the configuration."""

    @property
    def people(self) -> People:
        """Use cases of users."""

    @property
    def sign_ins(self) -> SignIns:
        """Use cases of sign-ins."""

    @property
    def tokens(self) -> AccessTokens:
        """Use cases of tokens."""

    @property
    def links(self) -> ShareLinks:
        """Use cases of share links and PINs."""

    @property
    def gates(self) -> GateTable:
        """The gates of all host names."""

    @property
    def https_port(self) -> int:
        """The port in public URLs."""

    def served_by(self, host: str) -> tuple[str, ServiceAccess | None]:
        """Return the agent of a host name, empty without one, and its service's `access`."""


FindParts = Callable[[], AccessParts | None]


class AccessEndpoints:
    """Base of the classes that answer commands about access.

    Args:
        find: returns the parts; None while the server's file has no section `access`.
    """

    def __init__(self, find: FindParts) -> None:
        self._find = find

    @property
    def parts(self) -> AccessParts:
        """Return the parts.

        Raises:
            AccessOffError: the server's file has no section `access`.
        """
        parts = self._find()
        if parts is None:
            raise AccessOffError
        return parts

    def url(self, host: str, path: str) -> str:
        """Return the public URL of a path of a host name."""
        port = self.parts.https_port
        return f"https://{host}{'' if port == 443 else f':{port}'}{path}"

    async def known_user(self, name: str) -> UserInfo:
        """Return a user.

        Raises:
            UserUnknown: the message has the name that is most like this one.
        """
        users = {user.name: user for user in await self.parts.people.users()}
        if name not in users:
            near = did_you_mean(name, users)
            raise UserUnknown(
                f"there is no user {name}{near or '; list them with: 0trust user list'}"
            )
        return users[name]
