"""TLS contexts for the tunnel (docs/spec/tunnel-v1.md, section 1), for enrollment, for
backends, and for clients without TLS."""

import ssl
from functools import cache
from pathlib import Path
from typing import Final

from zerotrust.errors import PkiError
from zerotrust.model.service import ServiceTls
from zerotrust.tunnel.codes import ALPN, WORKER_ALPN

HTTP: Final = "http/1.1"
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def tunnel_server(
    *, certificate: str, key: str, authority: str, enrollment: bool = False
) -> ssl.SSLContext:
    """Return the server's context: TLS 1.3 only, client certificates of our authority only.

    Args:
        enrollment: also accept clients without a certificate, which request one over HTTP/1.1. The
            caller must check whether the client has a certificate. Certificates of other
            authorities are refused in any case.

    Raises:
        PkiError: a file is missing, unreadable or does not fit the others.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL if enrollment else ssl.CERT_REQUIRED
    # With a session ticket, a client could reconnect after its certificate was revoked. The tunnel
    # reconnects too rarely to profit from tickets.
    context.num_tickets = 0
    context.set_alpn_protocols([ALPN, HTTP] if enrollment else [ALPN])
    return _tunnel(context, certificate, key, authority)


def tunnel_client(*, certificate: str, key: str, authority: str, worker: int = 0) -> ssl.SSLContext:
    """Return the agent's context: the server's certificate must have the expected name.

    Args:
        worker: the worker of the server to connect to.

    Raises:
        PkiError: a file is missing, unreadable or does not fit the others.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([ALPN, f"{WORKER_ALPN}{worker}"] if worker else [ALPN])
    return _tunnel(context, certificate, key, authority)


def enrollment_client(authority: str | None) -> ssl.SSLContext:
    """Return the context of an agent without a valid certificate (docs/spec/tunnel-v1.md, section
    11).

    Args:
        authority: the root to verify the server by, in PEM form. None verifies nothing: use it only
            to fetch a root, and compare that with a known fingerprint.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.hostname_checks_common_name = False
    context.set_alpn_protocols([HTTP])
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=authority)
    return context


def carrier() -> ssl.SSLContext:
    """Return the context for a web server that carries a tunnel in a WebSocket.

    It verifies nothing, as a TCP connection verifies nothing: the TLS of the tunnel inside
    authenticates both ends and encrypts. So the tunnel also passes proxies that put their own
    certificate in the place of the web server's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([HTTP])
    return context


def backend(settings: ServiceTls) -> ssl.SSLContext:
    """Return the context for backends with https; by default the system's authorities verify them.

    Raises:
        PkiError: a file is missing, or has no usable certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise PkiError(
            f"{settings.ca_file}: cannot be used as the backend's authority: {_reason(error)}"
        ) from error
    if settings.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.min_version is not None:
        context.minimum_version = _VERSIONS[settings.min_version]
    if settings.client_cert_file is not None:
        try:
            # OpenSSL asks for a password at the terminal unless it gets one.
            context.load_cert_chain(
                settings.client_cert_file, settings.client_key_file, password=""
            )
        except (OSError, ssl.SSLError) as error:
            raise PkiError(
                f"{settings.client_cert_file} cannot be used as the agent's certificate for a"
                f" backend: {_reason(error)}"
            ) from error
    return context


def _tunnel(context: ssl.SSLContext, certificate: str, key: str, authority: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # An agent's common name may look like a host name. OpenSSL must not check it against the name
    # constraints of its issuer.
    context.hostname_checks_common_name = False
    for path in (certificate, key, authority):
        if not Path(path).is_file():
            raise PkiError(
                f'{path}: no such file; correct the configuration, or create it with "0trust ca'
                ' issue"'
            )
    try:
        # OpenSSL asks for a password at the terminal unless it gets one.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise PkiError(
            f"{certificate} and {key} cannot be used together: {_reason(error)}"
        ) from error
    try:
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise PkiError(f"{authority} cannot be used as the authority: {_reason(error)}") from error
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or str(error)


@cache
def trusting_nobody() -> ssl.SSLContext:
    """Return a context that trusts no certificate, for HTTP clients that use no TLS.

    By default such a client reads all authorities of the system, which takes 20 ms.
    """
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
