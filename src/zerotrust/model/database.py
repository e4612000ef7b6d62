"""Sections of the server's file: database, admin socket, certificate authority."""

from collections.abc import Mapping
from typing import Final, Self

from pydantic import Field, SecretStr, field_validator

from zerotrust.model.base import Duration, Model

_DAY: Final = 86400.0


class DatabaseConfig(Model):
    """Storage of the data that commands create: agents, grants, tokens, revocations, audit log."""

    dir: str = "state"
    """Folder of the SQLite database and of the admin socket. The server creates it with mode 0700,
    and refuses a folder that other users can write."""

    url: SecretStr | None = None
    """URL of a PostgreSQL database that several servers share: `postgresql://user@host/database`.
    Without it, the server uses SQLite in `dir`."""

    url_file: str | None = None
    """File with the URL, for a URL that contains a password."""

    @field_validator("url")
    @classmethod
    def _supported_database(cls, value: SecretStr | None) -> SecretStr | None:
        kind = value.get_secret_value().partition("://")[0] if value is not None else "postgresql"
        if kind not in ("postgresql", "postgres", "sqlite"):
            raise ValueError(
                "invalid database URL: use postgresql://user@host/database or sqlite:////absolute/path"
            )
        return value

    @property
    def files(self) -> dict[str, str]:
        """Return the key and the name of the file with the URL, if there is one."""
        return {} if self.url_file is None else {"url_file": self.url_file}

    def with_files(self, contents: Mapping[str, bytes]) -> Self:
        """Return a copy with the URL from its file.

        Raises:
            ValueError: the file has no valid database URL.
        """
        if self.url_file is None or self.url_file not in contents:
            return self
        try:
            text = contents[self.url_file].decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError("the file in state.url_file is not text") from None
        return type(self).model_validate({**self.model_dump(), "url": text})

    @property
    def is_for_servers(self) -> bool:
        """Several servers may share the database."""
        if self.url is None:
            return self.url_file is not None
        return not self.url.get_secret_value().startswith("sqlite")

    @property
    def database(self) -> str:
        """Return the URL of the database. It may contain a password."""
        return f"sqlite:///{self.dir}/state.db" if self.url is None else self.url.get_secret_value()


class Admin(Model):
    """Unix socket for commands such as `0trust tokens create`.

    Only root and the user that runs the server may use it.
    """

    socket: str | None = None
    """Path of the socket. Default: `admin.sock` in `state.dir`."""


class IssuingAuthority(Model):
    """Certificate authority that signs certificates of agents and of the server.

    Without it, issue certificates with `0trust ca`.
    """

    cert_file: str | None = None
    """Issuing certificate: the intermediate that `0trust ca init` creates, not the root."""

    key_file: str | None = None
    """Private key of `cert_file`."""

    passphrase_file: str | None = None
    """File with the passphrase of the private key, if it has one."""

    agent_lifetime: Duration = Field(default=7 * _DAY, ge=10.0)
    """Lifetime of an agent's certificate. Agents renew after two thirds of it."""

    server_lifetime: Duration = Field(default=30 * _DAY, ge=10.0)
    """Lifetime of the server's own certificate, if this authority issued it. The server renews
    after two thirds of it."""
