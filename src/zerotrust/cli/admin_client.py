"""The way from a command to the running server: questions and answers over its admin socket (model.admin)."""

import os
import socket
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import typer
from pydantic import BaseModel, ValidationError

from zerotrust.cli.options import SERVER_FILE
from zerotrust.config.error_messages import objections
from zerotrust.config.load import load_server
from zerotrust.errors import CommandError, ConfigError
from zerotrust.net.channel import describe
from zerotrust.tunnel.binary import printable

_TIMEOUT: Final = httpx.Timeout(600.0, connect=10.0)
"""To verify a long audit takes a while."""

Answer = TypeVar("Answer", bound=BaseModel)
Question = TypeVar("Question", bound=BaseModel)


def question(model: type[Question], **said: object) -> Question:
    """What the command line asks for.

    Raises:
        typer.BadParameter: it can't be asked like this.
    """
    try:
        return model.model_validate(said)
    except ValidationError as error:
        path, _, message = objections(error, said)[0]
        raise typer.BadParameter(f"{'.'.join(map(str, path))}: {message}") from None


class AdminClient:
    """Asks the server whose socket this is.

    Args:
        start: the command that starts this server, for who finds it not running.

    Raises:
        CommandError: nobody answers there, or not to this user.
    """

    def __init__(self, path: Path, *, start: str) -> None:
        self._socket = path
        try:
            with socket.socket(socket.AF_UNIX) as tried:
                tried.connect(str(path))
        except OSError as error:
            raise CommandError(_unreachable(path, error, start)) from error
        # A connection for each question: then none is left open, whatever a command does in between.
        transport = httpx.HTTPTransport(uds=str(path), limits=httpx.Limits(max_keepalive_connections=0))
        self._client = httpx.Client(base_url="http://0trust", transport=transport, timeout=_TIMEOUT, trust_env=False)

    def get(self, path: str, model: type[Answer], asked: BaseModel | None = None) -> Answer:
        """Look something up.

        Raises:
            CommandError: and why.
        """
        return self._answer(model, self._ask("GET", path, params=_said(asked)))

    def post(self, path: str, model: type[Answer], asked: BaseModel | None = None) -> Answer:
        """Have something done.

        Raises:
            CommandError: and why.
        """
        return self._answer(model, self._ask("POST", path, json=_said(asked)))

    def text(self, path: str, asked: BaseModel) -> str:
        """Look something up that is not one JSON object.

        Raises:
            CommandError: and why.
        """
        return self._ask("GET", path, params=_said(asked)).text

    def _ask(self, method: str, path: str, **said: Any) -> httpx.Response:
        try:
            response = self._client.request(method, path, **said)
        except httpx.HTTPError as error:
            raise CommandError(
                f"the server at {self._socket} went away before it answered; 0trust audit list says whether it was done"
            ) from error
        if response.status_code != httpx.codes.OK:
            raise CommandError(_refusal(response) or self._stranger())
        return response

    def _answer(self, model: type[Answer], response: httpx.Response) -> Answer:
        try:
            return model.model_validate(response.json())
        except ValueError as error:
            raise CommandError(self._stranger()) from error

    def _stranger(self) -> str:
        return f"what answers at {self._socket} is not a 0trust server of this version"


def connect(config: Path, path: Path | None) -> AdminClient:
    """The way to the server of this configuration file, or to the one at this socket.

    Where no file is named and there is none at the usual place, it is the `server.yaml` of the current folder.

    Raises:
        ConfigError: the file can't be used, so nobody knows where the socket is.
        CommandError: nobody answers there, or not to this user.
    """
    if config == SERVER_FILE and not os.access(config, os.F_OK) and os.access(SERVER_FILE.name, os.F_OK):
        config = Path(SERVER_FILE.name)
    start = f"0trust server run --config {config}"
    if path is not None:
        return AdminClient(path, start=start)
    try:
        return AdminClient(Path(load_server(config).config.admin_socket), start=start)
    except ConfigError as error:
        raise ConfigError(
            f"{error}\nsay where the server's file is with --config, or its admin socket with --socket"
        ) from None


def _said(asked: BaseModel | None) -> dict[str, Any]:
    return {} if asked is None else asked.model_dump(exclude_none=True)


def _refusal(response: httpx.Response) -> str:
    """What the server says against it; nothing where it is none of ours."""
    try:
        return printable(str(response.json()["error"]))
    except (ValueError, TypeError, KeyError):
        return ""


def _unreachable(path: Path, error: OSError, start: str) -> str:
    match error:
        case PermissionError():
            return f"{path}: only root and the user that the server runs as may command it; try it with sudo"
        case FileNotFoundError() | ConnectionRefusedError() | NotADirectoryError():
            return (
                f"no server runs here: nobody answers at {path}; start it with `{start}`, "
                "or say where it is with --config or --socket"
            )
    return f"{path}: {describe(error)}"
