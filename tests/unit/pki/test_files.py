"""Tests of zerotrust.pki.files."""

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from zerotrust.errors import PkiError
from zerotrust.pki import files, keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "certs"
    files.create_authority(folder, name="Test CA")
    return folder


def test_the_layout(folder: Path) -> None:
    files.issue_agent(folder, "pihole")
    files.issue_server(folder, "tunnel.example.com", dns=["localhost"], ip=["127.0.0.1"])
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert names == {
        "ca.crt": 0o644,
        "ca.key": 0o600,
        "pihole.crt": 0o644,
        "pihole.key": 0o600,
        "tunnel.example.com.crt": 0o644,
        "tunnel.example.com.key": 0o600,
    }
    assert [(d.name, d.role, d.names, d.has_key) for d in files.describe(folder)] == [
        ("Test CA", "authority", (), True),
        ("pihole", "agent", ("urn:0trust:agent:pihole",), True),
        ("tunnel.example.com", "server", ("tunnel.example.com", "localhost", "127.0.0.1"), True),
    ]


def test_a_server_named_by_its_address(folder: Path) -> None:
    files.issue_server(folder, "192.0.2.7", dns=[], ip=[])
    assert files.describe(folder)[1].names == ("192.0.2.7",)


def test_nothing_is_overwritten_unless_asked(folder: Path) -> None:
    before = files.issue_agent(folder, "a").key.read_bytes()
    with pytest.raises(PkiError, match=r"a\.key: exists already and is not overwritten; choose another name"):
        files.issue_agent(folder, "a")
    with pytest.raises(PkiError, match="exists already"):
        files.issue_server(folder, "a", dns=[], ip=[])
    assert (folder / "a.key").read_bytes() == before
    files.issue_agent(folder, "a", force=True)
    assert (folder / "a.key").read_bytes() != before
    with pytest.raises(PkiError, match=r"ca\.key: exists already and is not overwritten; move it away first"):
        files.create_authority(folder)


def test_half_a_pair_is_not_completed(folder: Path) -> None:
    (folder / "a.crt").write_text("")
    with pytest.raises(PkiError, match=r"a\.crt: exists already"):
        files.issue_agent(folder, "a")
    assert not (folder / "a.key").exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".a", "-a", "a b", "a\n", "x" * 65, "ca", "CA", "ü", "::1"])
def test_names_that_are_refused(folder: Path, name: str) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(PkiError):
        files.issue_agent(folder, name)
    with pytest.raises(PkiError):
        files.issue_server(folder, name, dns=[], ip=[])
    assert sorted(folder.iterdir()) == before


def test_an_authority_that_cannot_be_used_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="no authority here; create one with: 0trust ca init --dir"):
        files.issue_agent(tmp_path, "a")
    with pytest.raises(PkiError, match="no such folder"):
        files.describe(tmp_path / "no")
    own = (folder / "ca.key").read_bytes()
    keys.write(folder / "ca.key", keys.to_pem(keys.generate()), mode=keys.PRIVATE, replace=True)
    with pytest.raises(PkiError, match=r"ca\.key: does not belong to .*ca\.crt"):
        files.load_authority(folder)
    keys.write(folder / "ca.key", own, mode=keys.PRIVATE, replace=True)
    (folder / "ca.crt").write_text("nonsense")
    with pytest.raises(PkiError, match="not a certificate in PEM form"):
        files.load_authority(folder)
    (folder / "ca.crt").unlink()
    with pytest.raises(PkiError, match="no such certificate"):
        files.load_authority(folder)


def test_a_leaf_is_no_authority(folder: Path, tmp_path: Path) -> None:
    leaf = files.issue_agent(folder, "a")
    other = tmp_path / "other"
    other.mkdir()
    leaf.certificate.rename(other / "ca.crt")
    leaf.key.rename(other / "ca.key")
    with pytest.raises(PkiError, match="not the certificate of an authority"):
        files.load_authority(other)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PkiError, match="cannot create the folder"):
        files.create_authority(tmp_path / "file")


def test_a_foreign_certificate_is_described_all_the_same(tmp_path: Path) -> None:
    key = keys.generate()
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 255)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    for name, made in {"a": builder, "b": builder.add_extension(usage, critical=False)}.items():
        certificate = made.sign(key, hashes.SHA256())
        (tmp_path / f"{name}.crt").write_bytes(certificate.public_bytes(keys.serialization.Encoding.PEM))
    for found in files.describe(tmp_path):
        assert (found.name, found.role, found.names, found.serial) == ("", "other", (), "ff")
        assert not found.has_key
