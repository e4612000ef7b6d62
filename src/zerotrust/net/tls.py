"""TLS contexts of the tunnel and towards backends (docs/spec/tunnel-v1.md, section 1)."""

import ssl
from pathlib import Path
from typing import Final

from zerotrust.errors import PkiError
from zerotrust.model.service import ServiceTls
from zerotrust.tunnel.codes import ALPN

HTTP: Final = "http/1.1"
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def tunnel_server(*, certificate: str, key: str, authority: str, enrolment: bool = False) -> ssl.SSLContext:
    """The server's side: only TLS 1.3, only clients with a certificate of our authority.

    Args:
        enrolment: clients without a certificate pass the handshake too, to ask for one by HTTP/1.1. Whoever accepts
            the connection must look whether there is one; a certificate of somebody else is refused here as ever.

    Raises:
        PkiError: a file is missing, unreadable or does not fit the others.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL if enrolment else ssl.CERT_REQUIRED
    # A session ticket would let a revoked certificate come back; the tunnel reconnects too rarely to miss them.
    context.num_tickets = 0
    context.set_alpn_protocols([ALPN, HTTP] if enrolment else [ALPN])
    return _tunnel(context, certificate, key, authority)


def tunnel_client(*, certificate: str, key: str, authority: str) -> ssl.SSLContext:
    """The agent's side: the server's name is checked.

    Raises:
        PkiError: a file is missing, unreadable or does not fit the others.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([ALPN])
    return _tunnel(context, certificate, key, authority)


def enrolment_client(authority: str | None) -> ssl.SSLContext:
    """The side of who has no certificate yet (docs/spec/tunnel-v1.md, section 8).

    Args:
        authority: the root in PEM form, by which the server is verified; None believes anybody, which is good for
            nothing but asking for a root that is then compared with a known fingerprint.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.hostname_checks_common_name = False
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=authority)
    return context


def backend(asked: ServiceTls) -> ssl.SSLContext:
    """Towards a backend with https: verified against the system's authorities, or the given one.

    Raises:
        PkiError: a file is missing, or holds no certificate or key that can be used.
    """
    try:
        context = ssl.create_default_context(cafile=asked.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise PkiError(f"{asked.ca_file}: cannot be used as the backend's authority: {_reason(error)}") from error
    if asked.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if asked.min_version is not None:
        context.minimum_version = _VERSIONS[asked.min_version]
    if asked.client_cert_file is not None:
        try:
            # Without a password of its own OpenSSL would ask for one at the terminal.
            context.load_cert_chain(asked.client_cert_file, asked.client_key_file, password="")
        except (OSError, ssl.SSLError) as error:
            raise PkiError(
                f"{asked.client_cert_file} cannot be used as the agent's certificate for a backend: {_reason(error)}"
            ) from error
    return context


def _tunnel(context: ssl.SSLContext, certificate: str, key: str, authority: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # An agent's common name is no host name, though it may look like one: OpenSSL would hold it against the names that
    # its issuer is limited to.
    context.hostname_checks_common_name = False
    for path in (certificate, key, authority):
        if not Path(path).is_file():
            raise PkiError(f'{path}: no such file; "0trust ca issue" makes certificates, the configuration names them')
    try:
        # Without a password of its own OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise PkiError(f"{certificate} and {key} cannot be used together: {_reason(error)}") from error
    try:
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise PkiError(f"{authority} cannot be used as the authority: {_reason(error)}") from error
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or str(error)
