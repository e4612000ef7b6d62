"""`headers`: sets, adds and deletes headers of requests and responses."""

from zerotrust.middleware.header_edits import Edit, add_field, delete_field, set_field
from zerotrust.middleware.interface import Request
from zerotrust.model.middleware_settings import HeaderEdits, HeadersConfig


class HeadersMiddleware:
    """Handler that passes every request and changes headers."""

    __slots__ = ("_request", "_response")

    def __init__(self, config: HeadersConfig) -> None:
        self._request = _edits(config.request)
        self._response = _edits(config.response)

    def request(self, request: Request, now: float) -> None:
        request.edits += self._request
        request.response_edits += self._response


def _edits(config: HeaderEdits) -> tuple[Edit, ...]:
    return (
        *(delete_field(name) for name in config.delete),
        *(set_field(name, values) for name, values in config.set.items()),
        *(add_field(name, values) for name, values in config.add.items()),
    )
