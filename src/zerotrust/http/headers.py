"""Names of fields: hop-by-hop fields, fields that clients may not send, and trailers."""

from typing import Final

from zerotrust.model.fields import folded

__all__ = [
    "HOP_BY_HOP",
    "OWN_PREFIX",
    "REQUEST_SPECIAL",
    "RESPONSE_SPECIAL",
    "SPOOFABLE",
    "SPOOFABLE_PREFIXES",
    "folded",
    "is_forbidden_trailer",
    "is_ours",
    "is_spoofable",
    "is_usual_trailer",
    "tokens",
]

# RFC 9110 s7.6.1: fields that an intermediary removes even if Connection does not name them. The
# two authentication fields are between a client and its proxy (s11.7). 0Trust is a gateway, and
# neither end must see it as a proxy.
HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-authenticate",
        b"proxy-authorization",
    )
)

# The server sets these fields. A client's fields of these names reach no backend.
FORWARDING: Final = frozenset(
    (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip")
)
OWN_PREFIX: Final = b"x-0trust-"
"""Only the server sets fields whose names have this prefix. Two of them come to the server and stay
there: `TOKEN` of clients, `PROXY_SECRET` of Caddy."""
TOKEN: Final = b"x-0trust-token"
PROXY_SECRET: Final = b"x-0trust-proxy-secret"

# Other fields by which a proxy tells its backend who the client is or what it requested. Backends
# trust them from any sender. The names come from Envoy, which strips its own from external
# requests, from OWASP and from scanners' lists.
SPOOFABLE: Final = frozenset(
    (
        # The client's address, as content delivery networks, load balancers and CGI name it.
        b"forwarded",
        b"forwarded-for",
        b"x-forward-for",
        b"x-forwarded",
        b"x-original-forwarded-for",
        b"x-original-for",
        b"x-original-remote-addr",
        b"x-client-ip",
        b"x-client-host",
        b"x-cluster-client-ip",
        b"x-custom-ip-authorization",
        b"x-nf-client-connection-ip",
        b"x-originating-ip",
        b"x-proxyuser-ip",
        b"x-remote-addr",
        b"x-remote-ip",
        b"x-true-client-ip",
        b"x-vercel-forwarded-for",
        b"x-appengine-user-ip",
        b"x-azure-clientip",
        b"x-azure-socketip",
        b"x-sucuri-clientip",
        b"ali-cdn-real-ip",
        b"cdn-src-ip",
        b"cf-connecting-ip",
        b"cf-connecting-ipv6",
        b"cf-pseudo-ipv4",
        b"client-ip",
        b"cloudfront-viewer-address",
        b"do-connecting-ip",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"incap-client-ip",
        b"proxy-client-ip",
        b"remote-addr",
        b"remote-host",
        b"true-client-ip",
        b"wl-proxy-client-ip",
        # URL, host or method that replace those of the request: routes and path rules would not see
        # them.
        b"x-host",
        b"x-http-destinationurl",
        b"x-http-host-override",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-host",
        b"x-original-method",
        b"x-original-uri",
        b"x-original-url",
        b"x-override-url",
        b"x-rewrite-url",
        b"x-script-name",
        # The scheme, and the client's TLS at a proxy.
        b"cf-visitor",
        b"client-cert",
        b"client-cert-chain",
        b"cloudfront-forwarded-proto",
        b"front-end-https",
        b"wl-proxy-ssl",
        b"x-arr-clientcert",
        b"x-arr-ssl",
        b"x-client-cert",
        b"x-client-dn",
        b"x-client-verify",
        b"x-original-proto",
        b"x-scheme",
        b"x-ssl",
        b"x-url-scheme",
        # The user, as an authenticating proxy names it (oauth2-proxy and others have prefixes,
        # below).
        b"cf-access-authenticated-user-email",
        b"remote-email",
        b"remote-groups",
        b"remote-name",
        b"remote-user",
        b"x-authenticated-user",
        b"x-remote-email",
        b"x-remote-group",
        b"x-remote-groups",
        b"x-remote-name",
        b"x-remote-user",
        # Control of the backend: an environment variable of CGI programs (CVE-2016-5385), and files
        # that a proxy delivers in place of the backend (CVE-2025-61780).
        b"proxy",
        b"x-accel-mapping",
        b"x-sendfile-type",
    )
)
SPOOFABLE_PREFIXES: Final = (
    b"x-forwarded-",
    b"x-envoy-",
    b"x-auth-request-",  # oauth2-proxy
    b"x-authentik-",
    b"x-webauth-",  # Grafana
    b"x-remote-extra-",  # Kubernetes
    b"x-goog-authenticated-user-",
    b"x-ms-client-principal",
    b"x-amzn-mtls-",
    b"x-amzn-oidc-",
    b"x-pomerium-claim-",
    b"tailscale-user-",
    b"ssl-client-",
    b"x-ssl-",
)

# HTTP2-Settings goes with `Upgrade: h2c`, which is never forwarded (see head.py).
REQUEST_SPECIAL: Final = (
    HOP_BY_HOP
    | FORWARDING
    | {TOKEN, PROXY_SECRET, b"host", b"content-length", b"expect", b"http2-settings"}
)
RESPONSE_SPECIAL: Final = HOP_BY_HOP | {b"content-length"}

# RFC 9110 s6.5.1: fields that are forbidden as trailers, even if the configuration permits them. A
# recipient that merges trailers into the head would act on them: framing, routing, control of
# request and answer, authentication, content encoding, and rules for browsers.
_FORBIDDEN_TRAILERS: Final = (
    HOP_BY_HOP
    | FORWARDING
    | SPOOFABLE
    | {
        b"host",
        b"content-length",
        b"trailer",
        b"http2-settings",
        b"via",
        b"max-forwards",
        b"expect",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"content-location",
        b"content-disposition",
        b"cache-control",
        b"pragma",
        b"range",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"if-range",
        b"authorization",
        b"www-authenticate",
        b"cookie",
        b"set-cookie",
        b"origin",
        b"age",
        b"date",
        b"expires",
        b"location",
        b"refresh",
        b"retry-after",
        b"vary",
        b"allow",
        b"alt-svc",
        b"clear-site-data",
        b"content-security-policy",
        b"content-security-policy-report-only",
        b"document-policy",
        b"expect-ct",
        b"feature-policy",
        b"link",
        b"nel",
        b"origin-agent-cluster",
        b"permissions-policy",
        b"public-key-pins",
        b"referrer-policy",
        b"report-to",
        b"reporting-endpoints",
        b"service-worker-allowed",
        b"sourcemap",
        b"strict-transport-security",
        b"timing-allow-origin",
        b"x-content-type-options",
        b"x-dns-prefetch-control",
        b"x-frame-options",
        b"x-permitted-cross-domain-policies",
        b"x-sendfile",
        b"x-xss-protection",
    }
)
_FORBIDDEN_TRAILER_PREFIXES: Final = (
    OWN_PREFIX,
    *SPOOFABLE_PREFIXES,
    b"access-control-",
    b"cross-origin-",
    b"sec-",
    b"x-accel-",
    b"x-pomerium-",
    b"cf-access-",
)

# Common trailers, which describe the body before them or the result of producing it.
_USUAL_TRAILERS: Final = frozenset(
    (
        b"content-digest",  # RFC 9530
        b"repr-digest",
        b"unencoded-digest",
        b"digest",  # RFC 3230
        b"content-md5",
        b"etag",  # RFC 9110 s8.8.3
        b"signature",  # RFC 9421
        b"signature-input",
        b"proxy-status",  # RFC 9209
        b"server-timing",  # W3C Server Timing
        b"x-checksum",
        b"x-amz-trailer-signature",
        b"x-stream-error",  # IPFS
    )
)
_USUAL_TRAILER_PREFIXES: Final = (b"grpc-", b"x-checksum-", b"x-amz-checksum-")


def is_spoofable(name: bytes) -> bool:
    """Return True if clients may not send this field (`folded`), because backends trust it from
    proxies."""
    return name in SPOOFABLE or name.startswith(SPOOFABLE_PREFIXES)


def is_ours(name: bytes) -> bool:
    """Return True if only the server sets this field (`folded`)."""
    return name in FORWARDING or name.startswith(OWN_PREFIX)


def is_forbidden_trailer(name: bytes) -> bool:
    """Return True if this field (`folded`) is forbidden as a trailer."""
    return name in _FORBIDDEN_TRAILERS or name.startswith(_FORBIDDEN_TRAILER_PREFIXES)


def is_usual_trailer(name: bytes) -> bool:
    """Return True if this field (`folded`) passes as a trailer without `api.pass_trailers`."""
    return name in _USUAL_TRAILERS or name.startswith(_USUAL_TRAILER_PREFIXES)


def tokens(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list (RFC 9110 s5.6.1) in lower case, without
    empty ones."""
    return [part for member in value.lower().split(b",") if (part := member.strip(b" \t"))]
