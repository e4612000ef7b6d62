"""Names in the rules of access: users, groups, tokens, addresses, countries, moments."""

import datetime
import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator

from zerotrust.model.base import check_a_labels, is_address, is_pattern, normalise_host

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROVIDER: Final = re.compile(r"[a-z0-9_-]{1,32}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_LOCAL_PART: Final = re.compile(r"[^\s@\x00-\x1f\x7f\"(),:;<>\[\\\]]{1,64}")
UNKNOWN_COUNTRY: Final = "unknown"


def check_name(value: str, what: str = "name") -> str:
    """Return the name of a user or local group if it is valid.

    Raises:
        ValueError: it is empty or too long, or has other characters than letters, digits, `.`, `_`
            and `-`.
    """
    if _NAME.fullmatch(value) is None:
        raise ValueError(
            f'invalid {what} "{value[:80]}": use 1 to 64 letters, digits, ".", "_" or "-"'
        )
    return value


def check_group(value: str) -> str:
    """Return the name of a local group if it is valid.

    Raises:
        ValueError: it has a slash, as groups of an identity provider have, or is no name.
    """
    if "/" in value:
        raise ValueError(
            f'invalid group "{value[:80]}": a local group has no "/"; groups with one come from an'
            " identity provider"
        )
    return check_name(value, "group")


def check_group_reference(value: str) -> str:
    """Return the name of a local group, or of a provider's group, `PROVIDER/GROUP`, if it is valid.

    Raises:
        ValueError: neither of both.
    """
    provider, slash, group = value.partition("/")
    if not slash:
        return check_group(value)
    check_provider(provider)
    if not 0 < len(group) <= 255 or not group.isprintable():
        raise ValueError(
            f'invalid group "{value[:80]}": write PROVIDER/GROUP, with the name that the provider'
            " has for the group"
        )
    return value


def check_provider(value: str) -> str:
    """Return the name of an identity provider if it is valid. The name is part of URLs.

    Raises:
        ValueError: it is empty or too long, or has other characters.
    """
    if _PROVIDER.fullmatch(value) is None:
        raise ValueError(
            f'invalid provider name "{value[:80]}": use 1 to 32 lower-case letters, digits, "_" or'
            ' "-"'
        )
    return value


def check_email(value: str) -> str:
    """Return an email address in lower case.

    Raises:
        ValueError: it has not exactly one `@`, or no domain.
    """
    local, at, domain = value.strip().partition("@")
    if not at or _LOCAL_PART.fullmatch(local) is None or not local.isascii():
        raise ValueError(f'invalid email address "{value[:80]}": write name@example.com')
    return f"{local.lower()}@{check_email_domain(domain)}"


def check_email_domain(value: str) -> str:
    """Return the domain of email addresses in lower case.

    Raises:
        ValueError: not a domain.
    """
    try:
        domain = normalise_host(value)
    except ValueError:
        domain = ""
    if ":" in value or "." not in domain or is_address(domain):
        raise ValueError(f'invalid email domain "{value[:80]}": write it as in example.com')
    return domain


def check_domain(value: str) -> str:
    """Return a host name without port and wildcard in normalised form.

    Raises:
        ValueError: a wildcard, a URL, an address, or no host name.
    """
    if "/" in value or ":" in value:
        raise ValueError(
            f'"{value}": write only the host name, without scheme and port, as in auth.example.com'
        )
    if is_pattern(value.strip()):
        raise ValueError(f'"{value}" is a wildcard: write one host name, as in auth.example.com')
    host = check_a_labels(normalise_host(value))
    if is_address(host):
        raise ValueError(f'"{value}" is an IP address: write a host name, as in auth.example.com')
    return host


def _user(value: str) -> str:
    if not 0 < len(value) <= 128 or not value.isprintable() or value != value.strip():
        raise ValueError(f'invalid user name "{value[:80]}"')
    return value


def _token_pattern(value: str) -> str:
    if not 0 < len(value) <= 64 or not value.isprintable():
        raise ValueError(f'invalid pattern "{value[:80]}": write a name, or one such as ci-*')
    return value


def _country(value: str) -> str:
    if value.lower() == UNKNOWN_COUNTRY:
        return UNKNOWN_COUNTRY
    code = value.upper()
    if code == "UK":
        raise ValueError('invalid country "UK": write GB')
    if _COUNTRY.fullmatch(code) is None:
        raise ValueError(
            f'invalid country "{value[:80]}": write two letters of ISO 3166-1, such as DE, or'
            " unknown"
        )
    return code


def _moment(value: Any) -> Any:
    if isinstance(value, datetime.date):
        return value
    try:
        if isinstance(value, str):
            day = len(value.strip()) <= 10
            parse = datetime.date.fromisoformat if day else datetime.datetime.fromisoformat
            return parse(value.strip())
    except ValueError:
        pass
    raise ValueError(f'invalid date "{str(value)[:80]}": write 2027-03-31 or 2027-03-31T18:00:00Z')


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, int, float)) else value


OneOrMany = BeforeValidator(_as_list)
"""Lets a list with one item be written without brackets."""

UserName = Annotated[str, AfterValidator(check_name)]
"""Name of a user in a file: letters, digits, `.`, `_` and `-`."""

UserReference = Annotated[str, AfterValidator(_user)]
"""Name of a user, also of one that comes from an identity provider."""

GroupName = Annotated[str, AfterValidator(check_group)]
"""Name of a local group."""

GroupReference = Annotated[str, AfterValidator(check_group_reference)]
"""Name of a local group, or `PROVIDER/GROUP`."""

ProviderName = Annotated[str, AfterValidator(check_provider)]
"""Name of an identity provider."""

EmailAddress = Annotated[str, AfterValidator(check_email)]
"""Email address in lower case."""

EmailDomain = Annotated[str, AfterValidator(check_email_domain)]
"""Domain of email addresses."""

DomainName = Annotated[str, AfterValidator(check_domain)]
"""One host name, without port."""

TokenPattern = Annotated[str, AfterValidator(_token_pattern)]
"""Name of a token; `*` stands for any characters."""

Country = Annotated[str, AfterValidator(_country)]
"""ISO 3166-1 alpha-2 in upper case, or `unknown`."""

Until = Annotated[datetime.datetime | datetime.date, BeforeValidator(_moment)]
"""Last day, or a moment."""
