"""Tests of zerotrust.pki.ca_directory."""

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.authorities import ForeignCertificate
from zerotrust.errors import PkiError
from zerotrust.pki import ca_directory, keys, profile
from zerotrust.pki.issuer import ServerNames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "certs"
    ca_directory.create_authority(folder, name="Test CA")
    return folder


def test_the_layout(folder: Path) -> None:
    ca_directory.issue_agent(folder, "pihole")
    ca_directory.issue_server(
        folder, "tunnel.example.com", ServerNames(dns=["localhost"], ip=["127.0.0.1"])
    )
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert names == {
        "ca.crt": 0o644,
        "ca.key": 0o600,
        "issuer.crt": 0o644,
        "issuer.key": 0o600,
        "pihole.crt": 0o644,
        "pihole.key": 0o600,
        "tunnel.example.com.crt": 0o644,
        "tunnel.example.com.key": 0o600,
    }
    root, issuer, *ends = ca_directory.describe(folder)
    assert (root.name, root.role, root.has_key) == ("Test CA", "authority", True)
    assert (issuer.name.partition(" issuing ")[0], issuer.role, issuer.has_key) == (
        "Test CA",
        "issuer",
        True,
    )
    assert [(d.name, d.role, d.names, d.has_key) for d in ends] == [
        ("pihole", "agent", ("urn:0trust:agent:pihole",), True),
        ("tunnel.example.com", "server", ("tunnel.example.com", "localhost", "127.0.0.1"), True),
    ]


def test_a_server_named_by_its_address(folder: Path) -> None:
    ca_directory.issue_server(folder, "192.0.2.7", ServerNames())
    assert ca_directory.describe(folder)[2].names == ("192.0.2.7",)


def test_nothing_is_overwritten_unless_asked(folder: Path) -> None:
    before = ca_directory.issue_agent(folder, "a").key.read_bytes()
    with pytest.raises(
        PkiError, match=r"a\.key: exists already and is not overwritten; choose another name"
    ):
        ca_directory.issue_agent(folder, "a")
    with pytest.raises(PkiError, match="exists already"):
        ca_directory.issue_server(folder, "a", ServerNames())
    assert (folder / "a.key").read_bytes() == before
    ca_directory.issue_agent(folder, "a", force=True)
    assert (folder / "a.key").read_bytes() != before
    with pytest.raises(
        PkiError, match=r"ca\.key: exists already and is not overwritten; move it away first"
    ):
        ca_directory.create_authority(folder)


def test_half_a_pair_is_not_completed(folder: Path) -> None:
    (folder / "a.crt").write_text("")
    with pytest.raises(PkiError, match=r"a\.crt: exists already"):
        ca_directory.issue_agent(folder, "a")
    assert not (folder / "a.key").exists()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../x",
        "a/b",
        ".a",
        "-a",
        "a b",
        "a\n",
        "x" * 65,
        "ca",
        "CA",
        "issuer",
        "Issuer",
        "ü",
        "::1",
    ],
)
def test_names_that_are_refused(folder: Path, name: str) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(PkiError):
        ca_directory.issue_agent(folder, name)
    with pytest.raises(PkiError):
        ca_directory.issue_server(folder, name, ServerNames())
    assert sorted(folder.iterdir()) == before


def test_an_authority_that_cannot_be_used_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="no authority here; create one with: 0trust ca init --dir"):
        ca_directory.issue_agent(tmp_path, "a")
    with pytest.raises(PkiError, match="no such folder"):
        ca_directory.describe(tmp_path / "no")
    own = (folder / "issuer.key").read_bytes()
    keys.write(folder / "issuer.key", keys.to_pem(keys.generate()), mode=keys.PRIVATE, replace=True)
    with pytest.raises(PkiError, match=r"issuer\.key: does not belong to .*issuer\.crt"):
        ca_directory.load_authority(folder)
    keys.write(folder / "issuer.key", own, mode=keys.PRIVATE, replace=True)
    (folder / "issuer.crt").write_text("nonsense")
    with pytest.raises(PkiError, match="not a certificate in PEM form"):
        ca_directory.load_authority(folder)


def test_the_issuer_needs_neither_the_roots_key_nor_its_certificate(folder: Path) -> None:
    (folder / "ca.key").unlink()
    (folder / "ca.crt").unlink()
    issued = ca_directory.issue_agent(folder, "pihole")
    leaf, issuer = ca_directory.load_certificates(issued.certificate)
    assert issuer == ca_directory.load_certificate(folder / "issuer.crt")
    leaf.verify_directly_issued_by(issuer)


def test_a_leaf_is_no_authority(folder: Path, tmp_path: Path) -> None:
    leaf = ca_directory.issue_agent(folder, "a")
    with pytest.raises(PkiError, match="not the certificate of an authority"):
        ca_directory.load_issuer(leaf.certificate, leaf.key)
    other = tmp_path / "other"
    other.mkdir()
    leaf.certificate.rename(other / "issuer.crt")
    leaf.key.rename(other / "issuer.key")
    with pytest.raises(PkiError, match="no authority here"):
        ca_directory.load_authority(other)


class TestOldLayout:
    """One certificate that signs everything: ca.crt and ca.key, of a former version or foreign."""

    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        folder = tmp_path / "old"
        self.root = ForeignCertificate.root()
        self.root.store(folder, "ca")
        return folder

    def test_it_goes_on_working(self, old: Path) -> None:
        agent = ca_directory.issue_agent(old, "pihole")
        server = ca_directory.issue_server(old, "tunnel.example.com", ServerNames())
        for made in (agent, server):
            (leaf,) = ca_directory.load_certificates(made.certificate)
            leaf.verify_directly_issued_by(self.root.certificate)

    def test_an_agent_that_is_called_issuer(self, old: Path) -> None:
        self.root.issue("issuer").store(old, "issuer")
        (leaf,) = ca_directory.load_certificates(
            ca_directory.issue_agent(old, "pihole").certificate
        )
        leaf.verify_directly_issued_by(self.root.certificate)
        with pytest.raises(PkiError, match=r"ca\.key: exists already"):
            ca_directory.create_authority(old)
        self.root = ForeignCertificate.root(path_length=None)
        self.root.store(old, "ca")
        with pytest.raises(
            PkiError, match=r"issuer\.crt: not the certificate of an authority; move it away first"
        ):
            ca_directory.rotate_issuer(old)

    def test_it_cannot_be_rotated(self, old: Path) -> None:
        with pytest.raises(PkiError, match="create a new one in another folder"):
            ca_directory.rotate_issuer(old)
        assert not (old / "issuer.key").exists()

    def test_an_issuer_of_others_with_those_above_it(self, tmp_path: Path) -> None:
        root = ForeignCertificate.root(path_length=None)
        middle = root.issue("Middle", ca=True)
        lower = middle.issue("Lower", ca=True)
        certificate, key = lower.store(tmp_path, "lower")
        certificate.write_bytes(lower.pem + middle.pem + root.pem)
        assert ca_directory.load_issuer(certificate, key).above == (middle.certificate,)


class TestRotation:
    def test_a_new_issuer_in_the_place_of_the_old_one(self, folder: Path) -> None:
        before = ca_directory.load_authority(folder)
        old = ca_directory.issue_agent(folder, "old")
        made, kept = ca_directory.rotate_issuer(folder, days=10)
        after = ca_directory.load_authority(folder)
        assert after.certificate.public_key() != before.certificate.public_key()
        assert (after.not_after - before.certificate.not_valid_before_utc).days == 10
        assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
        assert kept is not None and ca_directory.load_certificate(kept) == before.certificate
        assert not kept.with_suffix(".key").exists()
        assert ca_directory.load_certificates(old.certificate)[1] == before.certificate
        assert (
            ca_directory.load_certificates(ca_directory.issue_agent(folder, "new").certificate)[1]
            == after.certificate
        )
        assert [found.role for found in ca_directory.describe(folder)] == [
            "authority",
            "issuer",
            "issuer",
            "agent",
            "agent",
        ]

    def test_with_the_root_elsewhere(self, folder: Path, tmp_path: Path) -> None:
        stick = tmp_path / "stick"
        stick.mkdir()
        (folder / "ca.key").rename(stick / "ca.key")
        before = (folder / "issuer.key").read_bytes()
        with pytest.raises(
            PkiError, match="the root's key is not here; name the folder that has it with --root"
        ):
            ca_directory.rotate_issuer(folder)
        assert (folder / "issuer.key").read_bytes() == before
        (stick / "ca.crt").write_bytes((folder / "ca.crt").read_bytes())
        ca_directory.rotate_issuer(folder, root=stick)
        assert (folder / "issuer.key").read_bytes() != before
        assert not (folder / "ca.key").exists()

    def test_a_first_issuer_below_a_root_of_others(self, tmp_path: Path) -> None:
        root = ForeignCertificate.root(path_length=None)
        root.store(tmp_path, "ca")
        _, kept = ca_directory.rotate_issuer(tmp_path)
        assert kept is None
        assert ca_directory.load_authority(tmp_path).certificate.issuer == root.certificate.subject

    def test_constraints_are_kept_unless_others_are_asked_for(self, tmp_path: Path) -> None:
        one: list[x509.GeneralName] = [x509.DNSName("a.example")]
        other: list[x509.GeneralName] = [x509.DNSName("b.example")]
        ca_directory.create_authority(tmp_path, permitted=one)
        for asked, expected in ((None, one), (other, other)):
            ca_directory.rotate_issuer(tmp_path, permitted=asked)
            assert (
                profile.permitted_names(ca_directory.load_authority(tmp_path).certificate)
                == expected
            )


class TestPassphrases:
    def test_both_keys_are_encrypted_each_with_its_own(self, tmp_path: Path) -> None:
        root, own = b"root of all trust 1", b"issuing passphrase"
        file = tmp_path / "pass"
        file.write_bytes(own)
        ca_directory.create_authority(tmp_path, root_passphrase=root, passphrase=own)
        for name, good, bad in (("ca", root, own), ("issuer", own, root)):
            keys.read_key(tmp_path / f"{name}.key", good)
            with pytest.raises(PkiError):
                keys.read_key(tmp_path / f"{name}.key", bad)
        with pytest.raises(
            PkiError, match="the key is encrypted; give the file with its passphrase"
        ):
            ca_directory.issue_agent(tmp_path, "pihole")
        assert not (tmp_path / "pihole.key").exists()
        ca_directory.issue_agent(tmp_path, "pihole", passphrase_file=file)
        with pytest.raises(PkiError, match="encrypted"):
            ca_directory.rotate_issuer(tmp_path, passphrase=own)
        with pytest.raises(
            PkiError, match=r"issuer\.key: is encrypted, and the new key would not be"
        ):
            ca_directory.rotate_issuer(tmp_path, root_passphrase=root)
        keys.read_key(tmp_path / "issuer.key", own)
        ca_directory.rotate_issuer(tmp_path, root_passphrase=root, passphrase=own)
        keys.read_key(tmp_path / "issuer.key", own)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PkiError, match="cannot create the folder"):
        ca_directory.create_authority(tmp_path / "file")


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
        (tmp_path / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    for found in ca_directory.describe(tmp_path):
        assert (found.name, found.role, found.names, found.serial) == ("", "other", (), "ff")
        assert not found.has_key
