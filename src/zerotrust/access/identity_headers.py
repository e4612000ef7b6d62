"""Header fields that tell a backend who makes a request.

`X-0Trust-Jwt-Assertion` has the assertion (`access.assertion`). Backends that cannot verify one may
get plain fields as well, in one of the styles of other products or with names of their own.

A client must not send such fields itself. Backends read names in different ways (RFC 3875
s4.1.18), so they are removed in every spelling that `folded` makes equal, on host names with a
gate, or with `identity` in the agent's file. Elsewhere they pass as before.
"""

import re
from collections.abc import Mapping
from email.header import Header
from typing import Any, Final, Literal
from urllib.parse import quote

from zerotrust.http.head import RequestHead
from zerotrust.http.headers import folded
from zerotrust.http.parse_cache import recent

ASSERTION: Final = "X-0Trust-Jwt-Assertion"

Style = Literal["remote_user", "auth_request", "webauth"]
Encoding = Literal["rfc2047", "url"]

STYLES: Final[Mapping[str, Mapping[str, str]]] = {
    "remote_user": {  # Authelia, Tailscale's nginx-auth, Pangolin
        "Remote-User": "preferred_username",
        "Remote-Email": "email",
        "Remote-Name": "name",
        "Remote-Groups": "groups",
    },
    "auth_request": {  # oauth2-proxy
        "X-Auth-Request-User": "sub",
        "X-Auth-Request-Email": "email",
        "X-Auth-Request-Preferred-Username": "preferred_username",
        "X-Auth-Request-Groups": "groups",
    },
    "webauth": {  # Grafana
        "X-WEBAUTH-USER": "preferred_username",
        "X-WEBAUTH-EMAIL": "email",
        "X-WEBAUTH-NAME": "name",
        "X-WEBAUTH-GROUPS": "groups",
    },
}
"""Names of header fields, and the claim of each."""

_REMOVED: Final = frozenset(
    folded(name.encode())
    for name in (
        ASSERTION,
        *(name for style in STYLES.values() for name in style),
        "X-Forwarded-User",
        "X-Forwarded-Email",
        "X-Forwarded-Groups",
        "X-Forwarded-Preferred-Username",
    )
)
_REMOVED_PREFIXES: Final = (
    b"x-auth-request-",
    b"x-webauth-",
    b"cf-access-",
    b"x-pomerium-",
)
# Of these, `http.head` leaves only two prefixes among the lines to forward.
_SUSPECT: Final = re.compile(
    rb"\n(?:[Cc][Ff][^0-9A-Za-z](?i:access)|[Xx][^0-9A-Za-z](?i:pomerium))[^0-9A-Za-z]"
)
MAX_TEXT: Final = 256
"""Maximum length of a value, or of a member of a list, in characters."""
_NOT_PRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def is_identity_field(name: bytes) -> bool:
    """Return True if only the server may set this field (`folded`) on a host name with a gate."""
    return name in _REMOVED or name.startswith(_REMOVED_PREFIXES)


def without_identity_fields(head: RequestHead) -> RequestHead:
    """Return the head without fields that only the server may set on a host name with a gate.

    The fields that `api.pass_headers` may let pass (`spoofable`) lose them too.
    """
    fields = head.fields
    lines, spoofable = fields.lines, fields.spoofable
    if spoofable:
        spoofable = _without(spoofable)
    if _SUSPECT.search(b"\n" + lines) is not None:
        lines = _without(lines)
    if lines is fields.lines and spoofable == fields.spoofable:
        return head
    fields = fields.with_lines(lines, spoofable)
    return RequestHead(head.method, head.target, head.minor, fields)


@recent
def _without(lines: bytes) -> bytes:
    rows = lines.splitlines(True)
    return b"".join(row for row in rows if not is_identity_field(folded(row.partition(b":")[0])))


class IdentityHeaders:
    """Header fields for one service: the configuration `identity`, compiled.

    Args:
        jwt: send the assertion.
        headers: a style, or the claim of each header field.
        encoding: of text beyond ASCII.

    Attributes:
        names: of all fields that this service may get. A request has none of them, unless the
            server sets it.
    """

    __slots__ = ("_claims", "_encode", "_jwt", "names")

    def __init__(
        self,
        *,
        jwt: bool = True,
        headers: Style | Mapping[str, str] | None = None,
        encoding: Encoding = "rfc2047",
    ) -> None:
        self._jwt = jwt
        self._claims = STYLES[headers] if isinstance(headers, str) else dict(headers or {})
        self._encode = _percent_encoded if encoding == "url" else _encoded_words
        self.names = (ASSERTION, *self._claims)

    def fields(self, claims: Mapping[str, Any], assertion: bytes) -> list[tuple[str, str]]:
        """Return names and values of the fields to set; claims that are missing have none.

        Args:
            claims: of the subject (`access.assertion.claims_of`), and further ones of the provider.
            assertion: signed.
        """
        set_fields = [(ASSERTION, assertion.decode("ascii"))] if self._jwt else []
        for name, claim in self._claims.items():
            value = self._text(claims.get(claim, ""))
            if value:
                set_fields.append((name, value))
        return set_fields

    def _text(self, value: object) -> str:
        if not isinstance(value, (list, tuple)):
            return self._encode(_printable(value))
        # A group with a comma would look like two groups to the backend.
        members = [text for member in value if (text := _printable(member)) and "," not in text]
        if self._encode is _percent_encoded:
            return ",".join(map(_percent_encoded, members))
        return _encoded_words(",".join(members))


def _printable(value: object) -> str:
    """Return a claim as one line of text; empty if it is no text, number or truth value."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, (str, int, float)) else ""
    return _NOT_PRINTABLE.sub(" ", text).strip()[:MAX_TEXT]


def _encoded_words(text: str) -> str:
    """Return text as RFC 2047 encoded-words, unless it is plain ASCII that no reader would decode.

    A word has at most 75 characters (s2); readers ignore the space between two words (s6.2).
    """
    if text.isascii() and "=?" not in text:
        return text
    return Header(text, "utf-8", maxlinelen=75).encode(linesep="")


def _percent_encoded(text: str) -> str:
    """Return text in percent-encoding (RFC 3986 s2.1). `%` itself is encoded, commas too."""
    return quote(text, safe="!#$&'()*+/:;=?@[]~ ")
