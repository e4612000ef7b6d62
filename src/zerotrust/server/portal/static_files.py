"""The style sheet, script and icon of the pages. Few and small, so they are kept in memory."""

import hashlib
from importlib.resources import files
from pathlib import PurePath
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH: Final = "/.0trust/static/"
"""The same on all host names, so that the pages of each need no other host."""

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_YEAR: Final = 365 * 86400


class StaticFiles:
    """The static files of a package, each under a URL that changes with its content.

    Args:
        path: their path, with a slash at its end.
    """

    def __init__(self, package: str = "zerotrust.server.portal", path: str = PATH) -> None:
        self._path = path
        self._content = {
            file.name: file.read_bytes() for file in (files(package) / "static").iterdir()
        }
        self._version = {
            name: hashlib.sha256(content).hexdigest()[:12]
            for name, content in self._content.items()
        }

    def url(self, name: str) -> str:
        """Return the path of a file."""
        return f"{self._path}{name}?v={self._version[name]}"

    def routes(self) -> list[Route]:
        """Return the route of all files."""
        return [Route(f"{self._path}{{name}}", self._file, methods=["GET"])]

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._content:
            raise HTTPException(404)
        current = request.url.query == f"v={self._version[name]}"
        age = f"public, max-age={_YEAR}, immutable" if current else "no-cache"
        return Response(
            self._content[name],
            media_type=_TYPES[PurePath(name).suffix],
            headers={"Cache-Control": age},
        )
