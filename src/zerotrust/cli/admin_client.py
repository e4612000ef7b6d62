"""Client of the running server's admin API, over its unix socket (model.admin)."""

import os
import socket
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx2
import typer
from pydantic import BaseModel, ValidationError

from zerotrust.cli.options import SERVER_FILE
from zerotrust.cli.systemd import SERVER
from zerotrust.config.error_messages import plain_errors
from zerotrust.config.load import load_server
from zerotrust.errors import CommandError, ConfigError
from zerotrust.net.channel import describe
from zerotrust.net.tls import trusting_nobody
from zerotrust.tunnel.binary import printable

_TIMEOUT: Final = 600.0
"""Seconds in which the server must answer. To verify a long audit log takes minutes."""

Answer = TypeVar("Answer", bound=BaseModel)
Question = TypeVar("Question", bound=BaseModel)


def question(model: type[Question], **said: object) -> Question:
    """Return the request that the options make.

    Raises:
        typer.BadParameter: an option has an invalid value.
    """
    try:
        return model.model_validate(said)
    except ValidationError as error:
        path, _, message = plain_errors(error, said)[0]
        raise typer.BadParameter(f"{'.'.join(map(str, path))}: {message}") from None


class AdminClient:
    """Sends requests to the server with this admin socket.

    Args:
        start: the command that starts this server, for the error message.
        timeout: seconds in which it must answer.

    Raises:
        CommandError: no server answers there, or it refuses this user.
    """

    def __init__(self, path: Path, *, start: str, timeout: float = _TIMEOUT) -> None:
        self._socket = path
        try:
            with socket.socket(socket.AF_UNIX) as tried:
                tried.connect(str(path))
        except OSError as error:
            raise CommandError(_unreachable(path, error, start)) from error
        # Each request has a connection of its own, so none stays open.
        transport = httpx2.HTTPTransport(
            uds=str(path),
            limits=httpx2.Limits(max_keepalive_connections=0),
            verify=trusting_nobody(),
        )
        self._client = httpx2.Client(
            base_url="http://0trust", transport=transport, timeout=timeout, trust_env=False
        )

    def get(self, path: str, model: type[Answer], asked: BaseModel | None = None) -> Answer:
        """Return the answer to a GET.

        Raises:
            CommandError: the server refuses, or does not answer.
        """
        return self._answer(model, self._ask("GET", path, params=_said(asked)))

    def post(self, path: str, model: type[Answer], asked: BaseModel | None = None) -> Answer:
        """Return the answer to a POST.

        Raises:
            CommandError: the server refuses, or does not answer.
        """
        return self._answer(model, self._ask("POST", path, json=_said(asked)))

    def text(self, path: str, asked: BaseModel) -> str:
        """Return the answer to a GET as text.

        Raises:
            CommandError: the server refuses, or does not answer.
        """
        return self._ask("GET", path, params=_said(asked)).text

    def _ask(self, method: str, path: str, **said: Any) -> httpx2.Response:
        try:
            response = self._client.request(method, path, **said)
        except httpx2.HTTPError as error:
            raise CommandError(
                f"the server at {self._socket} did not answer; 0trust audit list shows whether the"
                " command took effect"
            ) from error
        if response.status_code != httpx2.codes.OK:
            raise CommandError(_refusal(response) or self._stranger())
        return response

    def _answer(self, model: type[Answer], response: httpx2.Response) -> Answer:
        try:
            return model.model_validate(response.json())
        except ValueError as error:
            raise CommandError(self._stranger()) from error

    def _stranger(self) -> str:
        return f"{self._socket} does not belong to a 0trust server of this version"


def connect(config: Path, path: Path | None, *, timeout: float = _TIMEOUT) -> AdminClient:
    """Return a channel to the server with this admin socket, or else with this configuration file.

    Without a file at the default place, it is `server.yaml` in the current directory, or that of
    the systemd service.

    Raises:
        ConfigError: the file cannot be used, so the socket is unknown.
        CommandError: no server answers there, or it refuses this user.
    """
    if config == SERVER_FILE:
        usual = (config, Path(SERVER_FILE.name), SERVER.config)
        config = next((file for file in usual if os.access(file, os.F_OK)), config)
    start = f"0trust server run --config {config}"
    if path is not None:
        return AdminClient(path, start=start, timeout=timeout)
    try:
        return AdminClient(
            Path(load_server(config).config.admin_socket), start=start, timeout=timeout
        )
    except ConfigError as error:
        raise ConfigError(
            f"{error}\nname the server's file with --config, or its admin socket with --socket"
        ) from None


def _said(asked: BaseModel | None) -> dict[str, Any]:
    return {} if asked is None else asked.model_dump(exclude_none=True)


def _refusal(response: httpx2.Response) -> str:
    """Return the error message in a response; empty if it is not from a 0trust server."""
    try:
        return printable(str(response.json()["error"]))
    except (ValueError, TypeError, KeyError):
        return ""


def _unreachable(path: Path, error: OSError, start: str) -> str:
    match error:
        case PermissionError():
            return f"{path}: only root and the user that the server runs as have access; use sudo"
        case FileNotFoundError() | ConnectionRefusedError() | NotADirectoryError():
            return (
                f"no server runs at {path}; start it with `{start}`, or name another with --config"
                " or --socket"
            )
    return f"{path}: {describe(error)}"
