"""Discovery document and keys of an identity provider.

They are fetched when they are first needed, so a server starts without its providers, and again by
themselves when they are old or a token has an unknown key.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from joserfc.jwk import KeySet

from zerotrust.errors import ProviderFailed
from zerotrust.middleware.jwt import usable_keys
from zerotrust.server.portal.provider_http import ProviderHttp, is_acceptable, json_object

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
"""Algorithms of signatures that are accepted: all are asymmetric."""

FRESH: Final = 3600.0
"""Seconds after which a document is fetched again."""
MAX_STALE: Final = 24 * 3600.0
"""Seconds for which a document is used while the provider does not answer."""
PAUSE: Final = 5.0
"""Seconds between two attempts to fetch a document after a failure."""
RENEWAL_PAUSE: Final = 10.0
"""Seconds between two attempts to find an unknown key."""

MAX_KEYS: Final = 64
"""Most keys of a provider. Large ones list about ten. A thousand would occupy the server for a
second for each token without the id of its key, which anyone may send."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMetadata:
    """A discovery document (OpenID Connect Discovery 1.0)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    user_info_endpoint: str = ""
    end_session_endpoint: str = ""
    algorithms: frozenset[str] = frozenset()
    auth_methods: tuple[str, ...] = ()
    sends_issuer: bool = False
    """Its responses have the parameter `iss` (RFC 9207)."""

    @classmethod
    def parse(cls, document: bytes, *, issuer: str) -> "ProviderMetadata":
        """Return the metadata in a discovery document.

        Raises:
            ProviderFailed: it is of another issuer, or has no usable endpoints.
        """
        found = json_object(document)
        if found.get("issuer") != issuer:
            raise ProviderFailed(
                f"the discovery document is of the issuer {str(found.get('issuer'))[:200]!r}, not"
                f" of {issuer!r}: write the issuer exactly as the provider does"
            )
        needed = {
            name: _endpoint(found, name, issuer)
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
        }
        for name, url in needed.items():
            if not url:
                raise ProviderFailed(f"the discovery document has no {name} over https")
        offered = _texts(found.get("id_token_signing_alg_values_supported")) or ("RS256",)
        algorithms = frozenset(offered) & frozenset(ALGORITHMS)
        if not algorithms:
            raise ProviderFailed("the provider signs with none of the accepted algorithms")
        return cls(
            issuer=issuer,
            **needed,
            user_info_endpoint=_endpoint(found, "userinfo_endpoint", issuer),
            end_session_endpoint=_endpoint(found, "end_session_endpoint", issuer),
            algorithms=algorithms,
            auth_methods=_texts(found.get("token_endpoint_auth_methods_supported")),
            sends_issuer=found.get("authorization_response_iss_parameter_supported") is True,
        )

    @property
    def auth_method(self) -> str:
        """Return the way in which the client proves itself: Basic unless only POST is offered."""
        by_post = "client_secret_post" in self.auth_methods
        by_basic = "client_secret_basic" in self.auth_methods
        return "client_secret_post" if by_post and not by_basic else "client_secret_basic"


class MetadataCache:
    """Metadata and keys of one provider.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, issuer: str, http: ProviderHttp, *, clock: Callable[[], float]) -> None:
        self._issuer = issuer
        self._http = http
        self._metadata: _Cached[ProviderMetadata] = _Cached(self._discover, clock)
        self._keys: _Cached[_Jwks] = _Cached(self._fetch_keys, clock)

    async def metadata(self) -> ProviderMetadata:
        """Return the metadata, not older than `FRESH` if the provider answers.

        Raises:
            ProviderFailed: the provider does not answer, and the last document is too old.
        """
        return await self._metadata.get()

    async def keys(self, algorithm: str, kid: str | None) -> KeySet:
        """Return the keys that a token may be signed with: one by its id, or all.

        Raises:
            ProviderFailed: there is no such key, or the provider does not answer.
        """
        found = (await self._keys.get()).find(algorithm, kid)
        if not found:
            # The provider may have changed its keys. Anyone may send tokens with unknown keys, so
            # the renewals are rationed.
            found = (await self._keys.renew()).find(algorithm, kid)
        if not found:
            raise ProviderFailed("the token is signed with a key that the provider does not list")
        return KeySet.import_key_set({"keys": found})

    async def _discover(self) -> ProviderMetadata:
        url = self._issuer.removesuffix("/") + "/.well-known/openid-configuration"
        return ProviderMetadata.parse(await self._http.document(url), issuer=self._issuer)

    async def _fetch_keys(self) -> "_Jwks":
        document = await self._http.document((await self.metadata()).jwks_uri)
        keys = json_object(document).get("keys")
        if not isinstance(keys, list) or len(keys) > MAX_KEYS:
            raise ProviderFailed(f"the JWKS document has no list of at most {MAX_KEYS} keys")
        return _Jwks(document)


@dataclass(slots=True)
class _Jwks:
    """A JWKS document, and the usable keys of each algorithm."""

    document: bytes
    _usable: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def find(self, algorithm: str, kid: str | None) -> list[Any]:
        if algorithm not in self._usable:
            try:
                self._usable[algorithm] = usable_keys(self.document, algorithm)["keys"]
            except ValueError:
                self._usable[algorithm] = []
        return [key for key in self._usable[algorithm] if kid is None or key.get("kid") == kid]


class _Cached(Generic[T]):
    """A document that is fetched when it is needed; concurrent callers share one request."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._value: T | None = None
        self._fetched_at = self._tried_at = float("-inf")
        self._failure: ProviderFailed | None = None

    async def get(self) -> T:
        if self._lock.locked() and self._value is not None:
            return self._usable(self._clock())  # somebody else is fetching the next one
        async with self._lock:
            now = self._clock()
            if self._value is None or now - self._fetched_at >= FRESH:
                await self._try(now, pause=PAUSE if self._failure else 0.0)
            return self._usable(now)

    async def renew(self) -> T:
        async with self._lock:
            now = self._clock()
            await self._try(now, pause=RENEWAL_PAUSE)
            return self._usable(now)

    async def _try(self, now: float, *, pause: float) -> None:
        if now - self._tried_at < pause:
            return
        self._tried_at = now
        try:
            self._value, self._fetched_at, self._failure = await self._fetch(), now, None
        except ProviderFailed as error:
            self._failure = error

    def _usable(self, now: float) -> T:
        if self._value is None or now - self._fetched_at >= MAX_STALE:
            raise self._failure or ProviderFailed("not fetched")
        return self._value


def _endpoint(found: dict[str, Any], name: str, issuer: str) -> str:
    url = found.get(name)
    if not isinstance(url, str) or not is_acceptable(url):
        return ""
    # Plain HTTP is for this machine. A provider elsewhere must not make the server send requests
    # to programs here, such as Caddy's admin API, which trust who reaches them.
    local = urlsplit(issuer).scheme == "http"
    return url if local or urlsplit(url).scheme == "https" else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
