"""An OpenID Connect provider in this process, which can lie in each of its answers."""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

CLIENT_ID = "0trust"
SECRET = "secret of the client: 100 %"
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

Changes = dict[str, Any]


class OidcProviderServer:
    """A provider that listens on the loopback interface while the context is entered.

    Attributes:
        user: claims of the user who signs in.
        lies: claims of ID tokens that replace true ones; None removes a claim.
        in_user_info: claims that only UserInfo has.
        sign: makes a token from its claims.
        answers: replaces the answer at a path by (status, body, fields).
        skew: seconds by which the clock of the provider is ahead.
        requests: paths that were requested.
    """

    def __init__(self) -> None:
        self.user: Changes = {
            "sub": "248289761001",
            "email": "anna@example.com",
            "email_verified": True,
            "name": "Anna",
        }
        self.lies: Changes = {}
        self.in_user_info: tuple[str, ...] = ()
        self.sign: Callable[[Changes], str] = self.signed
        self.answers: dict[str, tuple[int, bytes, list[str]]] = {}
        self.discovery: Changes = {}
        self.sends_issuer: str | None = None
        self.skew = 0.0
        self.requests: list[str] = []
        self.token_requests: list[dict[str, str]] = []
        self.delay: asyncio.Event | None = None
        self.redeems_once = True
        self.public = False
        self.refused_refresh_tokens = False
        self.token_answer: Changes = {}
        self.keys: list[RSAKey | ECKey] = []
        self._codes: dict[str, dict[str, str]] = {}
        self.refresh_tokens: set[str] = set()
        self.roll_keys()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def roll_keys(self, key: RSAKey | ECKey | None = None) -> None:
        """Replace the key; tokens are signed with the new one from now on."""
        self.keys = [key or ECKey.generate_key("P-256", {"kid": secrets.token_hex(4)})]

    def authorize(self, url: str, **changes: str) -> str:
        """Answer a browser that was sent to `url`; return the URL that it is sent back to."""
        asked = dict(parse_qsl(urlsplit(url).query))
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        back = {"code": code, "state": asked["state"]}
        if self.sends_issuer is not None:
            back["iss"] = self.sends_issuer
        back |= changes
        return f"{asked['redirect_uri']}?{urlencode(back)}"

    def signed(self, claims: Changes) -> str:
        return signed_by(self.keys[-1], claims)

    def unsigned(self, claims: Changes) -> str:
        """Return a token without a signature (`alg: none`)."""
        return _unsigned({"alg": "none", "typ": "JWT"}, claims) + "."

    def signed_with_public_key(self, claims: Changes) -> str:
        """Return a token that is signed by HMAC with the public key as its secret."""
        signed = _unsigned({"alg": "HS256", "kid": self.keys[-1].kid}, claims)
        secret = self.keys[-1].as_pem(private=False)
        return f"{signed}.{_text(hmac.digest(secret, signed.encode(), 'sha256'))}"

    def signed_by_stranger(self, claims: Changes) -> str:
        """Return a token that another key has signed under the id of this one."""
        stranger = ECKey.generate_key("P-256")
        header = {"alg": "ES256", "kid": self.keys[-1].kid}
        return jwt.encode(header, claims, stranger, algorithms=["ES256"])

    def claims(self, **more: Any) -> Changes:
        """Return the claims of an ID token, with the lies."""
        now = int(time.time() + self.skew)
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            **{name: value for name, value in self.user.items() if name not in self.in_user_info},
            **more,
            **self.lies,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def logout_token(self, **changes: Any) -> str:
        """Return a logout token."""
        now = int(time.time() + self.skew)
        claims: Changes = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_hex(8),
            "sub": self.user["sub"],
            "events": {LOGOUT_EVENT: {}},
            **changes,
        }
        return self.sign({name: value for name, value in claims.items() if value is not None})

    def _document(self) -> Changes:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "end_session_endpoint": f"{self.issuer}/leave",
            "id_token_signing_alg_values_supported": ["ES256", "RS256", "HS256", "none"],
            "authorization_response_iss_parameter_supported": self.sends_issuer is not None,
            **self.discovery,
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = head.split("\r\n")
            fields = {
                name.lower(): value.strip()
                for name, _, value in (one.partition(":") for one in lines if one)
            }
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            path = urlsplit(line.split(" ")[1]).path
            self.requests.append(path)
            if self.delay is not None:
                await self.delay.wait()
            status, answer, extra = self._answer(path, fields, body)
            answer_head = [
                f"HTTP/1.1 {status} x",
                f"Content-Length: {len(answer)}",
                "Connection: close",
                *extra,
                "",
                "",
            ]
            writer.write("\r\n".join(answer_head).encode() + answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(
        self, path: str, fields: dict[str, str], body: bytes
    ) -> tuple[int, bytes, list[str]]:
        if path in self.answers:
            return self.answers[path]
        match path:
            case "/.well-known/openid-configuration":
                said: Changes = self._document()
            case "/keys":
                said = {"keys": [key.as_dict(private=False) for key in self.keys]}
            case "/token":
                said = self._token(fields, body)
            case "/userinfo":
                said = self.user
            case _:
                return 404, b"", []
        return (
            400 if "error" in said else 200,
            json.dumps(said).encode(),
            ["Content-Type: application/json"],
        )

    def _token(self, fields: dict[str, str], body: bytes) -> Changes:
        asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.token_requests.append(asked)
        if not (self.public or self._is_client(fields, asked)):
            return {"error": "invalid_client"}
        if asked["grant_type"] == "refresh_token":
            return self._refreshed(asked)
        begun = self._codes.get(asked["code"])
        if begun is None:
            return {"error": "invalid_grant"}
        if self.redeems_once:
            del self._codes[asked["code"]]
        digest = hashlib.sha256(asked["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if challenge != begun["code_challenge"] or asked["redirect_uri"] != begun["redirect_uri"]:
            return {"error": "invalid_grant"}
        return self._tokens(nonce=begun["nonce"])

    def _is_client(self, fields: dict[str, str], asked: dict[str, str]) -> bool:
        """Check the client's secret as RFC 6749 s2.3.1 says."""
        if self.discovery.get("token_endpoint_auth_methods_supported") == ["client_secret_post"]:
            return (asked.get("client_id"), asked.get("client_secret")) == (CLIENT_ID, SECRET)
        kind, _, proof = fields.get("authorization", "").partition(" ")
        name, _, secret = base64.b64decode(proof).decode().partition(":")
        return (kind, unquote_plus(name), unquote_plus(secret)) == ("Basic", CLIENT_ID, SECRET)

    def _refreshed(self, asked: dict[str, str]) -> Changes:
        if self.refused_refresh_tokens or asked["refresh_token"] not in self.refresh_tokens:
            return {"error": "invalid_grant"}
        self.refresh_tokens.remove(asked["refresh_token"])
        return self._tokens()

    def _tokens(self, **more: Any) -> Changes:
        refresh = secrets.token_urlsafe(16)
        self.refresh_tokens.add(refresh)
        said = {
            "access_token": secrets.token_urlsafe(16),
            "token_type": "Bearer",
            "expires_in": 300,
            "refresh_token": refresh,
            "id_token": self.sign(self.claims(**more)),
            **self.token_answer,
        }
        return {name: value for name, value in said.items() if value is not None}


def signed_by(key: RSAKey | ECKey, claims: Changes) -> str:
    """Return a token that a key has signed."""
    algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
    header = {"alg": algorithm} | ({"kid": key.kid} if key.kid else {})
    return jwt.encode(header, claims, key, algorithms=[algorithm])


def _unsigned(header: Changes, claims: Changes) -> str:
    return ".".join(_text(json.dumps(one).encode()) for one in (header, claims))


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
