"""Tests of zerotrust.net.tls."""

import ssl
from functools import partial
from pathlib import Path

import pytest

from tests.support.authorities import ForeignCertificate
from zerotrust.errors import PkiError
from zerotrust.model.service import ServiceTls
from zerotrust.net.tls import backend, enrollment_client, tunnel_client, tunnel_server
from zerotrust.pki import ca_directory
from zerotrust.pki.issuer import ServerNames
from zerotrust.pki.keys import generate, to_pem


def test_backends_are_verified_unless_the_file_says_otherwise() -> None:
    verified = backend(ServiceTls())
    assert (verified.verify_mode, verified.check_hostname) == (ssl.CERT_REQUIRED, True)
    open_to_all = backend(ServiceTls(insecure_skip_verify=True))
    assert (open_to_all.verify_mode, open_to_all.check_hostname) == (ssl.CERT_NONE, False)


def test_oldest_version() -> None:
    assert backend(ServiceTls(min_version="1.3")).minimum_version is ssl.TLSVersion.TLSv1_3
    assert backend(ServiceTls(min_version="1.2")).minimum_version is ssl.TLSVersion.TLSv1_2


def test_unusable_files_are_named(tmp_path: Path) -> None:
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


def test_clients_without_a_certificate_need_enrollment(tmp_path: Path) -> None:
    ca_directory.create_authority(tmp_path)
    made = ca_directory.issue_server(tmp_path, "localhost", ServerNames())
    certificate, key, authority = map(str, (made.certificate, made.key, tmp_path / "ca.crt"))
    server = partial(tunnel_server, certificate=certificate, key=key, authority=authority)
    assert server().verify_mode is ssl.CERT_REQUIRED
    assert server(enrollment=True).verify_mode is ssl.CERT_OPTIONAL
    with pytest.raises(PkiError, match=r"localhost\.key cannot be used together"):
        made.key.write_bytes(to_pem(generate(), b"a long passphrase"))
        tunnel_client(certificate=certificate, key=key, authority=authority)


def test_a_joining_agent_verifies_the_given_authority() -> None:
    assert enrollment_client(None).verify_mode is ssl.CERT_NONE
    context = enrollment_client(ForeignCertificate.root("Our CA").pem.decode())
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert [ca["subject"] for ca in context.get_ca_certs()] == [((("commonName", "Our CA"),),)]
