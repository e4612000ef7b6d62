"""Translates the claims of an identity provider into an account, and checks who may sign in."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from zerotrust.errors import AccessRefused, ProviderFailed
from zerotrust.model.access import Access, IdentityProvider, ProviderSignIn
from zerotrust.server.access.people import ProviderAccount
from zerotrust.server.portal.oidc_token import is_subject
from zerotrust.telemetry import logs

_log = logs.logger("sign_in")

MAX_GROUPS: Final = 2000
MAX_GROUP_NAME: Final = 255
MAX_CLAIMS: Final = 16 * 1024
"""Longest JSON of the claims that rules name, in characters."""
MAX_EMAIL: Final = 254
MAX_SHOWN_NAME: Final = 200

MAX_TIME: Final = 1e11
"""Latest time in seconds since 1970: the year 5138."""

_GMAIL: Final = ("gmail.com", "googlemail.com")


def claims_in_rules(access: Access) -> frozenset[str]:
    """Return the names of the claims that rules name; only these are kept."""
    lists: list[Any] = [access.admins, access.viewers]
    for rule in access.rules:
        lists += [rule.allow, rule.deny, rule.require, *(path.allow for path in rule.paths)]
    conditions = (one for some in lists if not isinstance(some, str) for one in some)
    return frozenset(name for condition in conditions for name in condition.claim or {})


def lacks(config: IdentityProvider, claims: Mapping[str, Any], named: frozenset[str]) -> list[str]:
    """Return the claims that are needed and missing. UserInfo may have them."""
    needed = set(named)
    needed.update(name for condition in config.sign_in for name in condition.claim or {})
    if "email" in config.scopes:
        needed.add("email")
    missing = [name for name in sorted(needed) if name not in claims]
    if config.groups_claim is not None and _groups_value(config, claims) is None:
        missing.append(config.groups_claim)
    return missing


def account_of(
    name: str,
    config: IdentityProvider,
    claims: Mapping[str, Any],
    *,
    named: frozenset[str],
    refresh: str | None = None,
) -> ProviderAccount:
    """Return the account that verified claims describe.

    Args:
        name: the provider's name.
        named: claims that rules name.

    Raises:
        AccessRefused: this user may not sign in.
        ProviderFailed: the claims are unusable.
    """
    email, verified = _email(config, claims)
    session = claims.get("sid", "")
    account = ProviderAccount(
        provider=name,
        subject=claims["sub"],
        email=email,
        email_verified=verified,
        shown_name=_shown_name(claims),
        groups=_groups(name, config, claims),
        claims=_kept(claims, named),
        session=session if is_subject(session) else "",
        proven_at=proof_time(claims),
        refresh=refresh,
    )
    if config.sign_in and not any(_fits(one, config, account, claims) for one in config.sign_in):
        raise AccessRefused(
            f"{email or 'this account'} may not sign in here; use another account, or ask an"
            " administrator"
        )
    return account


def proof_time(claims: Mapping[str, Any]) -> float:
    """Return when the user has proven their identity at the provider; 0 if it does not say."""
    value = claims.get("auth_time")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return 0.0
    return float(value) if 0 < value < MAX_TIME else 0.0


def _email(config: IdentityProvider, claims: Mapping[str, Any]) -> tuple[str | None, bool]:
    email = claims.get("email")
    if not isinstance(email, str) or len(email) > MAX_EMAIL or not email.isprintable():
        return None, False
    said = claims.get("email_verified")
    # `trust_email` stands in for a provider that does not say, not against one that says no.
    return email, said is True or (said is None and config.trust_email)


def _shown_name(claims: Mapping[str, Any]) -> str:
    for claim in ("name", "preferred_username"):
        value = claims.get(claim)
        if isinstance(value, str) and value.strip():
            return "".join(filter(str.isprintable, value)).strip()[:MAX_SHOWN_NAME]
    return ""


def _groups_value(config: IdentityProvider, claims: Mapping[str, Any]) -> Any:
    """Return the claim with the groups, also one inside others: `realm_access.roles`."""
    assert config.groups_claim is not None
    if config.groups_claim in claims:
        return claims[config.groups_claim]
    value: Any = claims
    for part in config.groups_claim.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _groups(name: str, config: IdentityProvider, claims: Mapping[str, Any]) -> tuple[str, ...]:
    if config.groups_claim is None:
        return ()
    value = _groups_value(config, claims)
    if value is None:
        _warn_of_missing_groups(name, config, claims)
        return ()
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or len(found) > MAX_GROUPS:
        raise ProviderFailed(
            f"{config.groups_claim} is not a list of at most {MAX_GROUPS} groups; let the provider"
            " send those that rules name"
        )
    texts = [one for one in found if isinstance(one, str)]
    if config.kind == "keycloak":  # whose groups are paths, if `Full group path` is on
        texts = [one.removeprefix("/") for one in texts]
    # Others can't be named in rules (`model.access_names`).
    good = (one for one in texts if 0 < len(one) <= MAX_GROUP_NAME and one.isprintable())
    return tuple(dict.fromkeys(good))


def _warn_of_missing_groups(name: str, config: IdentityProvider, claims: Mapping[str, Any]) -> None:
    elsewhere = claims.get("_claim_names")
    if isinstance(elsewhere, Mapping) and config.groups_claim in elsewhere:
        _log.warning(
            "the user has too many groups for the token, so none counts; let the provider send only"
            " groups that are assigned to the application",
            provider=name,
            subject=claims["sub"],
            claim=config.groups_claim,
        )
    else:
        _log.warning(
            "the provider sent no groups; add the claim at the provider, or its scope to scopes",
            provider=name,
            subject=claims["sub"],
            claim=config.groups_claim,
        )


def _kept(claims: Mapping[str, Any], named: frozenset[str]) -> dict[str, Any]:
    kept = {name: claims[name] for name in sorted(named) if name in claims}
    if len(json.dumps(kept)) > MAX_CLAIMS:
        raise ProviderFailed(f"the claims that rules name are longer than {MAX_CLAIMS // 1024} KiB")
    return kept


def _fits(
    condition: ProviderSignIn,
    config: IdentityProvider,
    account: ProviderAccount,
    claims: Mapping[str, Any],
) -> bool:
    """Return True if all keys of the condition hold."""
    email = _plain(account.email) if account.email and account.email_verified else ""
    return (
        (condition.email is None or email in map(_plain, many(condition.email)))
        and (
            condition.email_domain is None
            or _domain_fits(email, many(condition.email_domain), config, claims)
        )
        and (condition.group is None or not set(many(condition.group)).isdisjoint(account.groups))
        and all(
            not set(many(values)).isdisjoint(_texts(claims.get(name)))
            for name, values in (condition.claim or {}).items()
        )
    )


def _domain_fits(
    email: str, domains: Iterable[str], config: IdentityProvider, claims: Mapping[str, Any]
) -> bool:
    domain = email.partition("@")[2] if email.count("@") == 1 else ""
    if not domain or domain not in map(_plain, domains):
        return False
    # Google also verifies addresses of domains that it does not manage, and does not learn when
    # they change hands. `hd` is the domain of an organization that manages the account.
    return config.kind != "google" or domain in _GMAIL or claims.get("hd") == domain


def _plain(email: str) -> str:
    # Not `casefold`: outside ASCII, different addresses would become equal.
    return email.lower() if email.isascii() else email


def many(value: str | list[str]) -> list[str]:
    """Return the values of a key that takes one or several."""
    return [value] if isinstance(value, str) else value


def _texts(value: Any) -> Iterator[str]:
    """Yield the values of a claim as text, with `true` and `false` as JSON writes them."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool):
            yield "true" if one else "false"
        elif isinstance(one, (str, int)):
            yield str(one)
