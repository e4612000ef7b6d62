"""Assertions: signed statements to backends about the subject of a request (JWT, RFC 7519).

An assertion is signed with ES256, which Grafana, Envoy and the common libraries verify. It is
good for five minutes and for one host name (`aud`).

Groups are the one claim that may be large. An assertion has only the groups that the rule of the
host name names. If these are still too long, it has none of them, and `groups_omitted` says so: a
part of them could turn the answer of a backend into its opposite.
"""

from collections.abc import Mapping
from typing import Any, Final

from joserfc import jwt
from joserfc.jwk import ECKey

from zerotrust.access.conditions import person_of
from zerotrust.access.subject import Credential, CredentialKind, Subject, SubjectKind

ALGORITHM: Final = "ES256"
LIFETIME: Final = 300
"""Seconds for which an assertion is good."""
MAX_GROUPS_BYTES: Final = 4096
"""Maximum length of all groups. Backends accept heads of 8 KiB and more."""
MAX_TEXT: Final = 256
"""Maximum length of a name or an address in characters; providers choose them."""


def claims_of(
    credential: Credential, *, auth_host: str, host: str, named_groups: frozenset[str], now: float
) -> dict[str, Any]:
    """Return the claims about the subject of a credential.

    The subject of an app's token is the app's owner, and `act` (RFC 8693 s4.1) names the app.

    Args:
        host: the host name of the request.
        named_groups: groups that the rule of the host name names.
        now: seconds since 1970.
    """
    subject = credential.subject
    person = person_of(subject) or subject
    email = person.email or min(person.emails, default="")
    session = credential.sign_in or credential
    claims: dict[str, Any] = {
        "iss": f"https://{auth_host}",
        "aud": f"https://{host}",
        "sub": person.id,
        "email": email[:MAX_TEXT],
        "name": (person.shown_name or person.name)[:MAX_TEXT],
        "preferred_username": _username(person)[:MAX_TEXT],
        **_groups(person.groups & named_groups),
        "idp": person.provider,
        "amr": [_method(credential, subject)],
        "sid": f"{session.kind.value}-{session.id}",
        "iat": int(now),
        "exp": int(now) + LIFETIME,
    }
    if person is not subject:
        claims["act"] = {"sub": subject.id}
    return {name: value for name, value in claims.items() if value or name == "groups"}


def sign(claims: Mapping[str, Any], key: ECKey, *, kid: str) -> bytes:
    """Return the assertion with these claims as a compact JWT.

    Args:
        kid: id of the key in the JWKS document.
    """
    header = {"alg": ALGORITHM, "typ": "JWT", "kid": kid}
    return jwt.encode(header, dict(claims), key, algorithms=[ALGORITHM]).encode("ascii")


def _username(person: Subject) -> str:
    # The name of a machine may be that of a user. Ids of machines have a colon, names of users
    # never.
    return person.name if person.kind is SubjectKind.USER else person.id


def _groups(groups: frozenset[str]) -> dict[str, Any]:
    if sum(len(group.encode("utf-8", "replace")) + 3 for group in groups) > MAX_GROUPS_BYTES:
        return {"groups": [], "groups_omitted": True}
    return {"groups": sorted(groups)}


def _method(credential: Credential, subject: Subject) -> str:
    if credential.kind is CredentialKind.TOKEN:
        return "token"
    session = credential.sign_in or credential
    return session.method or credential.method or subject.kind.value
