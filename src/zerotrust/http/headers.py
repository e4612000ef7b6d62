"""Names of fields: those that end at a hop, those that clients may not send, and those that may follow a body."""

from typing import Final

# RFC 9110 s7.6.1: what an intermediary removes even where Connection does not name it. The two proxy fields are
# here because they are a talk with a proxy (s11.7): 0Trust is a gateway, to be seen by neither end as a proxy.
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

# The server sets these itself, from what it knows: what a client sends under these names reaches no backend.
FORWARDING: Final = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip"))
OWN_PREFIX: Final = b"x-0trust-"
"""Every name that starts so is ours too."""

# Other fields by which a proxy tells its backend who the client is or what it asked for, and which backends believe
# from anyone. Envoy strips its own from what comes from outside, OWASP and the bypass lists of scanners name the rest.
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
        # The URL, host or method in place of those of the request: routes and path rules would not see them.
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
        # The scheme, and TLS that was ended in front.
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
        # The user, as a proxy that authenticates names it (oauth2-proxy and others have prefixes, below).
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
        # What a backend may do: an environment variable of CGI programs (CVE-2016-5385), the files that a proxy is to
        # deliver in its place (CVE-2025-61780).
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
REQUEST_SPECIAL: Final = HOP_BY_HOP | FORWARDING | {b"host", b"content-length", b"expect", b"http2-settings"}
RESPONSE_SPECIAL: Final = HOP_BY_HOP | {b"content-length"}

# RFC 9110 s6.5.1: fields that may not travel behind the body: framing, routing, request and response control,
# authentication, and how to read the content. A recipient that merges trailers into the head would act on them.
FORBIDDEN_TRAILERS: Final = (
    HOP_BY_HOP
    | FORWARDING
    | SPOOFABLE
    | {
        b"host",
        b"content-length",
        b"trailer",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"cache-control",
        b"expect",
        b"max-forwards",
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
        b"age",
        b"date",
        b"expires",
        b"location",
        b"retry-after",
        b"vary",
    }
)


def folded(name: bytes) -> bytes:
    """The name of a field as gateways to other programs compare it (RFC 3875 s4.1.18): without case, `_` like `-`."""
    return name.lower().replace(b"_", b"-")


def is_spoofable(name: bytes) -> bool:
    """True where a client may not send a field of this name (`folded`), because backends believe it from proxies."""
    return name in SPOOFABLE or name.startswith(SPOOFABLE_PREFIXES)


def is_ours(name: bytes) -> bool:
    """True where only the server sets a field of this name (`folded`)."""
    return name in FORWARDING or name.startswith(OWN_PREFIX)


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma list (RFC 9110 s5.6.1) in lower case; empty ones are left out."""
    return [part for member in value.lower().split(b",") if (part := member.strip(b" \t"))]
