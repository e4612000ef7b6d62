"""The agent id in a certificate.

It is a URI of the subject alternative names, `urn:0trust:agent:ID`. A certificate of another
authority without that URI names the agent by its common name. A certificate with no id, or with
two, is refused.
"""

import datetime
import re
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from zerotrust.errors import PkiError

AGENT_URN: Final = "urn:0trust:agent:"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The identity that a peer's certificate proves.

    `serial` is the serial number in hexadecimal digits, as `serial_of` writes it.
    """

    agent_id: str
    serial: str
    not_after: datetime.datetime


def check_id(agent_id: str) -> str:
    """Return `agent_id` if it is valid.

    Raises:
        PkiError: it is invalid.
    """
    if not _ID.match(agent_id):
        raise PkiError(
            f'"{agent_id[:100]}" cannot be used as a name; use 1 to 64 letters, digits, ".", "_"'
            ' and "-", and begin with a letter or a digit'
        )
    return agent_id


def identity(der: bytes) -> Identity:
    """Return the identity in a peer's certificate, which the TLS handshake has verified.

    Raises:
        PkiError: the certificate names no agent.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        return Identity(
            agent_id=agent_id_of(certificate),
            serial=serial_of(certificate),
            not_after=certificate.not_valid_after_utc,
        )
    except (ValueError, x509.InvalidVersion) as error:
        raise PkiError("the certificate cannot be read") from error


def agent_id_of(certificate: x509.Certificate) -> str:
    """Return the id of the agent that a certificate names.

    Raises:
        PkiError: it belongs to an authority, or names no agent or more than one.
    """
    try:
        if is_authority(certificate):
            raise PkiError("the certificate is an authority's, not an agent's")
        named = _uris(certificate) or _common_names(certificate)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise PkiError("the certificate cannot be read") from error
    if len(named) != 1:
        raise PkiError(
            f"the certificate names {'no agent' if not named else 'more than one agent'}"
        )
    return check_id(named[0])


def serial_of(certificate: x509.Certificate) -> str:
    """Return the serial number in lower-case hexadecimal digits without leading zeros."""
    return f"{certificate.serial_number:x}"


def common_name(certificate: x509.Certificate) -> str:
    """Return the first common name of the subject, or an empty string."""
    return next(iter(_common_names(certificate)), "")


def is_authority(certificate: x509.Certificate) -> bool:
    """Return True if the certificate may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return [uri.removeprefix(AGENT_URN) for uri in uris if uri.startswith(AGENT_URN)]


def _common_names(certificate: x509.Certificate) -> list[str]:
    return [
        str(name.value)
        for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    ]
