"""Fetches the JWKS documents of token issuers (`jwks_url`).

The agent fetches the keys and sends them to the server with its policies. The server does not
fetch them itself: a tenant who writes an agent's configuration could otherwise make the server
send requests into the server's network (docs/architecture.md).

The agent asks each source every minute. While nothing changes, the answer is a 304 without
content (RFC 9110 s13.1.2). So a key that its issuer adds or withdraws takes effect within a
minute, and no token can cause an earlier request.
"""

import asyncio
import random
import ssl
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final

from zerotrust.middleware.jwt import usable_keys
from zerotrust.model.authentication import KeySource
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import trusting_nobody
from zerotrust.telemetry import logs

if TYPE_CHECKING:
    import httpx2

_log = logs.logger("keys")

REFRESH: Final = 60.0
RETRY_FIRST: Final = 1.0
"""Seconds until the next attempt after a failure; they double with each failure, up to REFRESH."""
MAX_STALE: Final = 24 * 3600.0
"""Seconds that the last keys stay valid while their issuer does not answer. A key that the issuer
withdraws in that time stays valid too."""
TIMEOUT: Final = 10.0
MAX_BYTES: Final = 256 * 1024


class FetchError(Exception):
    """A document could not be fetched; the message is for the log."""


class CachedJwks:
    """JWKS document of one source. `now` is monotonic and in seconds.

    Attributes:
        keys: the valid keys; None if there are none.
    """

    __slots__ = ("_failures", "_fetched_at", "_source", "keys")

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._failures = 0
        self._fetched_at = 0.0
        self.keys: dict[str, Any] | None = None

    def fetched(self, document: bytes | None, now: float) -> bool:
        """Record an answer; return True if the keys have changed.

        Args:
            document: the answer's body; None if the source says that it has not changed.

        Raises:
            ValueError: the document has no usable keys; call `failed` then.
        """
        keys = usable_keys(document, self._source.algorithm) if document is not None else self.keys
        changed = keys != self.keys
        self.keys = keys
        self._fetched_at = now
        self._failures = 0
        return changed

    def failed(self, now: float) -> bool:
        """Record a failed attempt; return True if the keys have become too old by it."""
        self._failures += 1
        if self.keys is None or now - self._fetched_at < MAX_STALE:
            return False
        self.keys = None
        return True

    @property
    def failing(self) -> bool:
        """The last attempt failed."""
        return self._failures > 0

    @property
    def pause(self) -> float:
        """Return the seconds until the next attempt."""
        return (
            min(RETRY_FIRST * 2.0 ** min(self._failures - 1, 10), REFRESH)
            if self._failures
            else REFRESH
        )


class JwksFetcher:
    """Fetches the JWKS documents of all sources that this agent's policies name.

    Args:
        changed: called with a source when its document has appeared, changed or become too old.

    Attributes:
        documents: the valid JWKS documents by source.
    """

    def __init__(self, tasks: Tasks, *, changed: Callable[[KeySource], None]) -> None:
        self.documents: dict[KeySource, dict[str, Any]] = {}
        self._changed = changed
        self._tasks = tasks
        self._fetching: dict[KeySource, asyncio.Task[None]] = {}

    def fetch_from(self, sources: Collection[KeySource]) -> None:
        """Fetch from these sources from now on, and from no others."""
        for source in self._fetching.keys() - set(sources):
            self._fetching.pop(source).cancel()
            self.documents.pop(source, None)
        for source in sources:
            if source not in self._fetching:
                self._fetching[source] = self._tasks.spawn(
                    self._fetch_forever(source), f"keys {_shown(source)}"
                )

    async def _fetch_forever(self, source: KeySource) -> None:
        # It takes a while to import httpx2 and to read the system's authorities.
        client = await asyncio.to_thread(_client, source)
        loop = asyncio.get_running_loop()
        cached, etag = CachedJwks(source), ""
        async with client:
            while True:
                try:
                    document, etag = await _fetch(client, source.url, etag)
                    changed = self._fetched(source, cached, document, loop.time())
                except (FetchError, ValueError) as error:
                    changed, etag = self._failed(source, cached, str(error), loop.time()), ""
                if changed:
                    self._publish(source, cached.keys)
                # Agents that start at the same moment must not ask the issuer at the same moment
                # for ever.
                await asyncio.sleep(cached.pause * random.uniform(0.9, 1.1))  # noqa: S311

    def _fetched(
        self, source: KeySource, cached: CachedJwks, document: bytes | None, now: float
    ) -> bool:
        was_failing = cached.failing
        changed = cached.fetched(document, now)
        if changed or was_failing:
            count = len((cached.keys or {}).get("keys", ()))
            _log.info("keys fetched", source=_shown(source), keys=count, changed=changed)
        return changed

    def _failed(self, source: KeySource, cached: CachedJwks, reason: str, now: float) -> bool:
        was_failing = cached.failing
        expired = cached.failed(now)
        if expired:
            _log.error(
                "keys are too old: requests that need them are refused",
                source=_shown(source),
                reason=reason,
            )
        elif not was_failing:
            effect = (
                "the last keys stay valid"
                if cached.keys is not None
                else "requests that need them are refused"
            )
            _log.warning("cannot fetch keys", source=_shown(source), reason=reason, effect=effect)
        return expired

    def _publish(self, source: KeySource, keys: dict[str, Any] | None) -> None:
        if keys is None:
            self.documents.pop(source, None)
        else:
            self.documents[source] = keys
        self._changed(source)


def _shown(source: KeySource) -> str:
    """Return the source's URL for logs, without its query, which may hold a secret."""
    return source.url.partition("?")[0]


def _client(source: KeySource) -> "httpx2.AsyncClient":
    import httpx2

    secured = source.url.lower().startswith("https:")
    return httpx2.AsyncClient(
        verify=ssl.create_default_context() if secured else trusting_nobody(),
        follow_redirects=False,
        timeout=TIMEOUT,
        limits=httpx2.Limits(max_keepalive_connections=0),
        # HTTPS may go through the proxy that the environment names. Plain HTTP is for issuers on
        # this machine.
        trust_env=secured,
        headers={
            "Accept": "application/jwk-set+json, application/json",
            "Accept-Encoding": "identity",
        },
    )


async def _fetch(client: "httpx2.AsyncClient", url: str, etag: str) -> tuple[bytes | None, str]:
    """Return the document and its ETag; None as the document if this ETag is still current.

    Raises:
        FetchError: no answer in time, or the answer is no document of at most MAX_BYTES.
    """
    import httpx2

    try:
        async with asyncio.timeout(TIMEOUT):
            async with client.stream(
                "GET", url, headers={"If-None-Match": etag} if etag else {}
            ) as response:
                if response.status_code == 304 and etag:
                    return None, etag
                _check(response)
                data = bytearray()
                async for piece in response.aiter_raw():
                    data += piece
                    if len(data) > MAX_BYTES:
                        raise FetchError(f"the document is larger than {MAX_BYTES // 1024} KiB")
                return bytes(data), response.headers.get("etag", "")
    except TimeoutError:
        raise FetchError(f"no complete answer within {TIMEOUT:g} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise FetchError(str(error) or type(error).__name__) from error


def _check(response: "httpx2.Response") -> None:
    if response.has_redirect_location:
        raise FetchError(
            f"status {response.status_code}: redirects are not followed; set jwks_url to the"
            " final URL"
        )
    if response.status_code != 200:
        raise FetchError(f"status {response.status_code}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise FetchError("the document is compressed, although the request accepts no compression")
