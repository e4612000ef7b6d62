"""The server's own certificate, which it renews itself where its authority issued it."""

import datetime
from pathlib import Path

from cryptography import x509

from zerotrust.pki import csr, key_pair_files, keys, renewal_time
from zerotrust.pki.ca_directory import load_certificates
from zerotrust.pki.chain_verification import is_ours
from zerotrust.pki.issuer import Issuer, ServerNames


class ServerCertificate:
    """A certificate and its key in two files. Certificates of others' authorities are left to their owners."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._part = renewal_time.share()

    def renew(
        self, issuer: Issuer, root: x509.Certificate, length: datetime.timedelta, now: datetime.datetime
    ) -> str | None:
        """Put a new one, for the same names, in the place of the old, if it is time.

        Returns:
            Until when it is good, for people; None where it was not time, or it is not ours to renew.

        Raises:
            PkiError: the files can't be read or written, or the issuer has ended.
        """
        chain = load_certificates(self._certificate)
        if now.timestamp() < renewal_time.renew_at(chain[0], self._part) or not is_ours(chain, issuer, root):
            return None
        new = csr.create()
        issued = issuer.issue_server(new.pem, _names(chain[0]), length, now)
        key_pair_files.replace(self._certificate, self._key, chain=issued.chain_pem, key_pem=keys.to_pem(new.key))
        return f"{issued.not_after:%Y-%m-%d %H:%M:%S} UTC"


def _names(certificate: x509.Certificate) -> ServerNames:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ServerNames()
    return ServerNames(
        dns=names.get_values_for_type(x509.DNSName),
        ip=[str(address) for address in names.get_values_for_type(x509.IPAddress)],
    )
