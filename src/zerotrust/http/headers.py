"""Which fields end at a hop, which ones 0Trust sets itself, and how a comma list is read."""

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

# What a client sends under these names must never reach a backend as if 0Trust had said it.
FORWARDING: Final = frozenset(
    (
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-server",
        b"x-forwarded-prefix",
        b"x-real-ip",
        b"forwarded",
    )
)
OWN_PREFIX: Final = b"x-0trust-"
"""Every name that starts so is ours too."""

# HTTP2-Settings goes with `Upgrade: h2c`, which is never forwarded (see head.py).
REQUEST_SPECIAL: Final = HOP_BY_HOP | FORWARDING | {b"host", b"content-length", b"expect", b"http2-settings"}
RESPONSE_SPECIAL: Final = HOP_BY_HOP | {b"content-length"}

# RFC 9110 s6.5.1: fields that may not travel behind the body: framing, routing, request and response control,
# authentication, and how to read the content. A recipient that merges trailers into the head would act on them.
FORBIDDEN_TRAILERS: Final = (
    HOP_BY_HOP
    | FORWARDING
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


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma list (RFC 9110 s5.6.1) in lower case; empty ones are left out."""
    return [part for member in value.lower().split(b",") if (part := member.strip(b" \t"))]
