"""The keys of token issuers (`jwks_url`), fetched by the agent and sent to the server with the policies they are for.

The agent fetches, not the server: who writes an agent's file says which addresses of the agent's own network are asked,
and has nobody else's network to reach into (docs/architecture.md).

Each source is asked every minute, and costs one answer without content while nothing changes (RFC 9110 s13.1.2): so a
key that its issuer has added, or withdrawn, counts a minute later, and no token can make anybody ask sooner.
"""

import asyncio
import random
import ssl
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final

from zerotrust.middleware.jwt import usable_keys
from zerotrust.model.authentication import KeySource
from zerotrust.net.tasks import Tasks
from zerotrust.telemetry import logs

if TYPE_CHECKING:
    import httpx

_log = logs.logger("keys")

REFRESH: Final = 60.0
RETRY_FIRST: Final = 1.0
"""After a failure; twice as long after each further one, up to `REFRESH`."""
LONGEST_STALE: Final = 24 * 3600.0
"""So long the last keys hold while their issuer does not answer. A key that was withdrawn meanwhile holds as long."""
TIMEOUT: Final = 10.0
MAX_BYTES: Final = 256 * 1024


class FetchError(Exception):
    """Why a document could not be had, in words for a log."""


class CachedJwks:
    """What is known of one source. `now` is monotonic and in seconds.

    Attributes:
        keys: the keys that hold now; None where there are none.
    """

    __slots__ = ("_failures", "_fetched_at", "_source", "keys")

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._failures = 0
        self._fetched_at = 0.0
        self.keys: dict[str, Any] | None = None

    def fetched(self, document: bytes | None, now: float) -> bool:
        """The source has answered, with None where its document is the same; True where the keys are others now.

        Raises:
            ValueError: the document cannot be used; `failed` is to be called then.
        """
        keys = usable_keys(document, self._source.algorithm) if document is not None else self.keys
        changed = keys != self.keys
        self.keys = keys
        self._fetched_at = now
        self._failures = 0
        return changed

    def failed(self, now: float) -> bool:
        """The source has not answered, or with something else; True where the keys do not hold any more."""
        self._failures += 1
        if self.keys is None or now - self._fetched_at < LONGEST_STALE:
            return False
        self.keys = None
        return True

    @property
    def failing(self) -> bool:
        """The last attempt has failed."""
        return self._failures > 0

    @property
    def pause(self) -> float:
        """Seconds until it is to be asked again."""
        return min(RETRY_FIRST * 2.0 ** min(self._failures - 1, 10), REFRESH) if self._failures else REFRESH


class Keys:
    """The keys from all sources that this agent's policies name.

    Attributes:
        documents: JWKS documents by source, as they hold now.
        changed: called with a source after its document has changed, come or gone.
    """

    def __init__(self, tasks: Tasks) -> None:
        self.documents: dict[KeySource, dict[str, Any]] = {}
        self.changed: Callable[[KeySource], None] = _nobody
        self._tasks = tasks
        self._fetching: dict[KeySource, asyncio.Task[None]] = {}

    def want(self, sources: Collection[KeySource]) -> None:
        """Keep the keys from these sources, and no others."""
        for source in self._fetching.keys() - set(sources):
            self._fetching.pop(source).cancel()
            self.documents.pop(source, None)
        for source in sources:
            if source not in self._fetching:
                self._fetching[source] = self._tasks.spawn(self._keep(source), f"keys {_shown(source)}")

    async def _keep(self, source: KeySource) -> None:
        """Fetch the keys of one source, for ever."""
        # Reading the system's authorities takes a while; so does importing httpx, which nobody else here needs.
        client = await asyncio.to_thread(_client, source)
        loop = asyncio.get_running_loop()
        known, etag = CachedJwks(source), ""
        async with client:
            while True:
                try:
                    document, etag = await _fetch(client, source.url, etag)
                    changed = self._fetched(source, known, document, loop.time())
                except (FetchError, ValueError) as error:
                    changed, etag = self._failed(source, known, str(error), loop.time()), ""
                if changed:
                    self._use(source, known.keys)
                # Agents that were started together, by a server's restart say, must not ask together for ever.
                await asyncio.sleep(known.pause * random.uniform(0.9, 1.1))  # noqa: S311

    def _fetched(self, source: KeySource, known: CachedJwks, document: bytes | None, now: float) -> bool:
        was_failing = known.failing
        changed = known.fetched(document, now)
        if changed or was_failing:
            count = len((known.keys or {}).get("keys", ()))
            _log.info("keys fetched", source=_shown(source), keys=count, changed=changed)
        return changed

    def _failed(self, source: KeySource, known: CachedJwks, reason: str, now: float) -> bool:
        was_failing = known.failing
        withdrawn = known.failed(now)
        if withdrawn:
            _log.error("keys are too old: requests that need them are refused", source=_shown(source), reason=reason)
        elif not was_failing:
            meanwhile = "the last ones hold" if known.keys is not None else "requests that need them are refused"
            _log.warning("keys cannot be fetched", source=_shown(source), reason=reason, meanwhile=meanwhile)
        return withdrawn

    def _use(self, source: KeySource, keys: dict[str, Any] | None) -> None:
        if keys is None:
            self.documents.pop(source, None)
        else:
            self.documents[source] = keys
        self.changed(source)


def _nobody(source: KeySource) -> None:
    """Who is told before somebody wants to be."""


def _shown(source: KeySource) -> str:
    """For logs: without a query, which may hold a secret."""
    return source.url.partition("?")[0]


def _client(source: KeySource) -> "httpx.AsyncClient":
    import httpx

    secured = source.url.lower().startswith("https:")
    return httpx.AsyncClient(
        verify=ssl.create_default_context(),
        follow_redirects=False,
        timeout=TIMEOUT,
        limits=httpx.Limits(max_keepalive_connections=0),
        # A proxy of the environment may stand before the issuer, but not between two programs of this machine.
        trust_env=secured,
        headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"},
    )


async def _fetch(client: "httpx.AsyncClient", url: str, etag: str) -> tuple[bytes | None, str]:
    """The document and its ETag; None where it is still the one with this ETag.

    Raises:
        FetchError: there is no answer in time, or it is something else than a document of bounded size.
    """
    import httpx

    try:
        async with asyncio.timeout(TIMEOUT):
            async with client.stream("GET", url, headers={"If-None-Match": etag} if etag else {}) as response:
                if response.status_code == 304 and etag:
                    return None, etag
                _check(response)
                data = bytearray()
                async for piece in response.aiter_raw():
                    data += piece
                    if len(data) > MAX_BYTES:
                        raise FetchError(f"the document has more than {MAX_BYTES // 1024} KiB")
                return bytes(data), response.headers.get("etag", "")
    except TimeoutError:
        raise FetchError(f"no whole answer within {TIMEOUT:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FetchError(str(error) or type(error).__name__) from error


def _check(response: "httpx.Response") -> None:
    if response.has_redirect_location:
        raise FetchError(f"status {response.status_code}: redirects are not followed; name the place itself")
    if response.status_code != 200:
        raise FetchError(f"status {response.status_code}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise FetchError("the document is compressed, which was not asked for")
