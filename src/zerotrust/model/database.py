"""Sections of the server's file about who its agents are: the database, the authority, the way to command both."""

from collections.abc import Mapping
from typing import Final, Self

from pydantic import Field, SecretStr, field_validator

from zerotrust.model.base import Duration, Model

_DAY: Final = 86400.0


class DatabaseConfig(Model):
    """What is made at run time: agents, grants, tokens, revocations and the audit."""

    dir: str = "state"
    """Folder of the database and of the admin socket, beside this file. It is made with mode 0700; one that other users
    may write is refused."""

    url: SecretStr | None = None
    """PostgreSQL, `postgresql://user@host/database`, for several servers; without it, SQLite in `dir`."""

    url_file: str | None = None
    """File with the URL, where that has a password."""

    @field_validator("url")
    @classmethod
    def _a_database(cls, value: SecretStr | None) -> SecretStr | None:
        kind = value.get_secret_value().partition("://")[0] if value is not None else "postgresql"
        if kind not in ("postgresql", "postgres", "sqlite"):
            raise ValueError("a database is postgresql://user@host/database, or sqlite:////absolute/path")
        return value

    @property
    def files(self) -> dict[str, str]:
        """The file that the URL stands in."""
        return {} if self.url_file is None else {"url_file": self.url_file}

    def with_files(self, contents: Mapping[str, bytes]) -> Self:
        """The same with the URL of its file.

        Raises:
            ValueError: no URL of a database.
        """
        if "url_file" not in contents:
            return self
        try:
            text = contents["url_file"].decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError("the file of state.url_file is not text") from None
        return type(self).model_validate({**self.model_dump(), "url": text})

    @property
    def database(self) -> str:
        """The URL of the database. It may hold a password."""
        return f"sqlite:///{self.dir}/state.db" if self.url is None else self.url.get_secret_value()


class Admin(Model):
    """Where the commands reach the running server: only root and the server's own user are answered."""

    socket: str | None = None
    """The socket's file; without it, `admin.sock` in `state.dir`."""


class IssuingAuthority(Model):
    """What the server signs its agents' certificates with. Without it certificates are issued by hand."""

    cert_file: str | None = None
    """The issuing certificate that `0trust ca init` makes, not the root."""

    key_file: str | None = None
    """Its private key."""

    passphrase_file: str | None = None
    """File with the passphrase of the key, where it has one."""

    agent_lifetime: Duration = Field(default=7 * _DAY, ge=10)
    """How long an agent's certificate is good for; it is renewed after two thirds of that."""

    server_lifetime: Duration = Field(default=30 * _DAY, ge=10)
    """The same for the certificate of the server itself, where the authority issued it."""
