"""Tests of chain verification, which ignores the dates."""

import datetime
from datetime import UTC, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.authorities import ForeignCertificate
from zerotrust.pki import ca_directory, csr, keys
from zerotrust.pki.ca_directory import load_authority, load_certificate, load_certificates
from zerotrust.pki.chain_verification import anchor, is_ours
from zerotrust.pki.issuer import Issuer


def test_our_issuer_an_earlier_one_and_the_root_itself(tmp_path: Path) -> None:
    ca_directory.create_authority(tmp_path)
    ca_directory.issue_agent(tmp_path, "home")
    root, chain = load_certificate(tmp_path / "ca.crt"), load_certificates(tmp_path / "home.crt")
    assert is_ours(chain, load_authority(tmp_path), root)
    ca_directory.rotate_issuer(tmp_path)
    assert is_ours(chain, load_authority(tmp_path), root)
    assert not is_ours(chain[:1], load_authority(tmp_path), root), (
        "the issuer of old has to be shown"
    )


def test_dates_do_not_matter(tmp_path: Path) -> None:
    ca_directory.create_authority(tmp_path)
    issuer = load_authority(tmp_path)
    now = datetime.datetime.now(UTC)
    issued = issuer.issue_agent(
        "home", csr.create().pem, timedelta(seconds=1), now - timedelta(seconds=-1)
    )
    path = tmp_path / "old.crt"
    path.write_bytes(issued.chain_pem)
    assert is_ours(load_certificates(path), issuer, load_certificate(tmp_path / "ca.crt"))


def test_the_names_of_ours_are_not_enough(tmp_path: Path) -> None:
    ca_directory.create_authority(tmp_path)
    issuer, root = load_authority(tmp_path), load_certificate(tmp_path / "ca.crt")
    name = issuer.certificate.subject.rfc4514_string().removeprefix("CN=")
    thief = ForeignCertificate.root(name)
    assert not is_ours([thief.issue("home").certificate, thief.certificate], issuer, root)


def test_a_root_of_the_same_name_is_not_the_root(tmp_path: Path) -> None:
    ca_directory.create_authority(tmp_path)
    ca_directory.create_authority(tmp_path / "other")
    issuer = ca_directory.load_certificate(tmp_path / "issuer.crt")
    roots = [ca_directory.load_certificate(tmp_path / name / "ca.crt") for name in ("other", "")]
    assert anchor([issuer], roots) == roots[1]
    assert anchor([issuer], roots[:1]) is None


def test_who_was_issued_a_certificate_by_the_root_is_no_authority(tmp_path: Path) -> None:
    """As in folders that have no issuing certificate: an agent must not vouch for another one."""
    ca_directory.create_authority(tmp_path)
    root, key = load_certificate(tmp_path / "ca.crt"), keys.read_key(tmp_path / "ca.key")
    issuer, asked = Issuer(certificate=root, key=key), csr.create()
    mine = x509.load_pem_x509_certificate(
        issuer.issue_agent(
            "home", asked.pem, timedelta(days=7), datetime.datetime.now(UTC)
        ).chain_pem
    )
    assert is_ours([mine], issuer, root)
    thief = Issuer(certificate=mine, key=asked.key)
    forged = thief.issue_agent(
        "office", csr.create().pem, timedelta(days=7), datetime.datetime.now(UTC)
    )
    chain = [x509.load_pem_x509_certificate(forged.chain_pem), mine]
    assert not is_ours(chain, issuer, root)


def test_what_nobody_can_verify_is_not_ours() -> None:
    """Untrusted certificates: from an RSA authority, with each kind of signature."""
    key = rsa.generate_private_key(65537, 2048)
    root = ForeignCertificate.root(key=key).certificate
    sha256 = bytes.fromhex("608648016503040201")
    der = _signed_with_pss(root, key).public_bytes(serialization.Encoding.DER)
    issuer = Issuer(certificate=root, key=key)
    assert is_ours([x509.load_der_x509_certificate(der)], issuer, root)
    for last in set(range(128)) - {sha256[-1]}:
        odd = x509.load_der_x509_certificate(der.replace(sha256, sha256[:-1] + bytes([last])))
        assert not is_ours([odd], issuer, root)


def _signed_with_pss(root: x509.Certificate, key: rsa.RSAPrivateKey) -> x509.Certificate:
    now = datetime.datetime.now(UTC)
    builder = x509.CertificateBuilder(
        root.subject, x509.Name([]), key.public_key(), 5, now, now + timedelta(days=1)
    )
    padded = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    return builder.sign(key, hashes.SHA256(), rsa_padding=padded)
