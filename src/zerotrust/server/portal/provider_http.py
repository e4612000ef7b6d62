"""HTTP client for identity providers: bounded in time and size, and without redirects.

A provider is trusted to say who its users are, and with nothing else. Its answers may be slow, huge
or compressed, or send the server to another address.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx2
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuthError

from zerotrust.errors import ProviderFailed
from zerotrust.net.tls import trusting_nobody

TIMEOUT: Final = 10.0
"""Seconds for a whole exchange of request and answer."""
MAX_BYTES: Final = 512 * 1024
"""Longest answer. An ID token with 500 groups has 30 KiB."""
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_FIELDS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}


class ProviderHttp:
    """Makes clients, which share the authorities of the system."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._making = asyncio.Lock()

    @asynccontextmanager
    async def client(
        self,
        *,
        secured: bool,
        client_id: str = "",
        client_secret: str | None = None,
        auth_method: str = "client_secret_basic",
    ) -> AsyncIterator[AsyncOAuth2Client]:
        """Yield a client for one exchange.

        Args:
            secured: HTTPS may go through the proxy that the environment names; plain HTTP is for
                providers on this machine.
            auth_method: the way in which the client proves itself at the token endpoint.

        Raises:
            ProviderFailed: no complete answer in time, or an unusable one.
        """
        client = AsyncOAuth2Client(
            client_id,
            client_secret,
            token_endpoint_auth_method=auth_method if client_secret else "none",
            verify=await self._tls() if secured else trusting_nobody(),
            timeout=TIMEOUT,
            follow_redirects=False,
            trust_env=secured,
            event_hooks={"response": [_bound]},
        )
        client.register_client_auth_method(("client_secret_basic", _basic))
        try:
            async with asyncio.timeout(TIMEOUT), client:
                yield client
        except TimeoutError:
            raise ProviderFailed(f"no complete answer within {TIMEOUT:g} s") from None
        except OAuthError:
            raise
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError) as error:
            # Neither has the request's body in its text.
            reason = str(error)[:200] or type(error).__name__
            raise ProviderFailed(f"{_server_of(error)}{reason}") from error

    async def document(self, url: str) -> bytes:
        """Return the document at a URL.

        Raises:
            ProviderFailed: there is none, or it is too large.
        """
        async with self.client(secured=urlsplit(url).scheme == "https") as client:
            response: httpx2.Response = await client.get(url, auth=None, headers=_FIELDS)
            _check(response)
            return response.content

    async def user_info(self, url: str, access_token: str) -> dict[str, Any]:
        """Return the claims of the user that an access token belongs to.

        Raises:
            ProviderFailed: there is no answer, or it has no claims.
        """
        fields = {**_FIELDS, "Authorization": f"Bearer {access_token}"}
        async with self.client(secured=urlsplit(url).scheme == "https") as client:
            response = await client.get(url, auth=None, headers=fields)
            _check(response)
            return json_object(response.content)

    async def _tls(self) -> ssl.SSLContext:
        # To read the system's authorities takes a tenth of a second.
        async with self._making:
            if self._context is None:
                self._context = await asyncio.to_thread(ssl.create_default_context)
            return self._context


def json_object(document: bytes) -> dict[str, Any]:
    """Return the JSON object in a document.

    Raises:
        ProviderFailed: it is none.
    """
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError):
        raise ProviderFailed("the answer is not JSON") from None
    if not isinstance(parsed, dict):
        raise ProviderFailed("the answer is not a JSON object")
    return parsed


def is_acceptable(url: object) -> bool:
    """Return True for URLs over HTTPS, and over HTTP for hosts that are this machine."""
    if not isinstance(url, str) or len(url) > 2048 or not url.isascii():
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if not host or "@" in parts.netloc or parts.fragment:
        return False
    local = host in _LOOPBACK or host.endswith(".localhost")
    return parts.scheme == "https" or (parts.scheme == "http" and local)


def _server_of(error: Exception) -> str:
    """Return the origin that was asked, for a message; empty if it is not known."""
    if not isinstance(error, httpx2.TransportError):
        return ""
    try:
        url = error.request.url
    except RuntimeError:  # it was raised before there was a request
        return ""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}: "


def _check(response: httpx2.Response) -> None:
    if response.has_redirect_location:
        raise ProviderFailed(f"status {response.status_code}: redirects are not followed")
    if response.status_code != 200:
        raise ProviderFailed(f"status {response.status_code}")


async def _bound(response: httpx2.Response) -> None:
    """Bound the body of a response; called before it is read."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProviderFailed(
            "the answer is compressed, although the request accepts no compression"
        )
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream)


class _Bounded(httpx2.AsyncByteStream):
    """Stream of at most `MAX_BYTES`."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for piece in self._stream:
            received += len(piece)
            if received > MAX_BYTES:
                raise ProviderFailed(f"the answer is larger than {MAX_BYTES // 1024} KiB")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


def _basic(client: Any, method: str, uri: str, headers: Any, body: Any) -> tuple[str, Any, Any]:
    """Prove the client's identity as RFC 6749 s2.3.1 says, which authlib does without encoding."""
    words = f"{quote(client.client_id, safe='')}:{quote(client.client_secret, safe='')}"
    headers["Authorization"] = "Basic " + base64.b64encode(words.encode("ascii")).decode("ascii")
    return uri, headers, body
