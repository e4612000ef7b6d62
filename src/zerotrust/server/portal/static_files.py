"""The style sheet, script and icon of the pages. Few and small, so they are kept in memory."""

import hashlib
from importlib.resources import files
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH: Final = "/.0trust/static/"
"""The same on all host names, so that the pages of each need no other host."""

_TYPES: Final = {
    "portal.css": "text/css; charset=utf-8",
    "portal.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_YEAR: Final = 365 * 86400


class StaticFiles:
    """The static files, each under a URL that changes with its content."""

    def __init__(self) -> None:
        folder = files("zerotrust.server.portal") / "static"
        self._content = {name: (folder / name).read_bytes() for name in _TYPES}
        self._version = {
            name: hashlib.sha256(content).hexdigest()[:12]
            for name, content in self._content.items()
        }

    def url(self, name: str) -> str:
        """Return the path of a file."""
        return f"{PATH}{name}?v={self._version[name]}"

    def routes(self) -> list[Route]:
        """Return the route of all files."""
        return [Route(f"{PATH}{{name}}", self._file, methods=["GET"])]

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _TYPES:
            raise HTTPException(404)
        current = request.url.query == f"v={self._version[name]}"
        age = f"public, max-age={_YEAR}, immutable" if current else "no-cache"
        return Response(
            self._content[name], media_type=_TYPES[name], headers={"Cache-Control": age}
        )
