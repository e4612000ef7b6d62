"""TLS towards backends: whom we believe, who we are, and what is too old."""

import ssl
from pathlib import Path

import pytest

from zerotrust.errors import PkiError
from zerotrust.model.service import ServiceTls
from zerotrust.net.tls import backend
from zerotrust.pki.keys import generate, to_pem


def test_backends_are_verified_unless_the_file_says_otherwise() -> None:
    verified = backend(ServiceTls())
    assert (verified.verify_mode, verified.check_hostname) == (ssl.CERT_REQUIRED, True)
    open_to_all = backend(ServiceTls(insecure_skip_verify=True))
    assert (open_to_all.verify_mode, open_to_all.check_hostname) == (ssl.CERT_NONE, False)


def test_oldest_version() -> None:
    assert backend(ServiceTls(min_version="1.3")).minimum_version is ssl.TLSVersion.TLSv1_3
    assert backend(ServiceTls(min_version="1.2")).minimum_version is ssl.TLSVersion.TLSv1_2


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    empty, key = tmp_path / "empty.crt", tmp_path / "a.key"
    empty.write_text("")
    key.write_bytes(to_pem(generate()))
    for asked in (
        ServiceTls(ca_file=str(tmp_path / "none")),
        ServiceTls(ca_file=str(empty)),
        ServiceTls(client_cert_file=str(tmp_path / "none")),
        ServiceTls(client_cert_file=str(empty), client_key_file=str(key)),
    ):
        with pytest.raises(PkiError, match=str(tmp_path)):
            backend(asked)
