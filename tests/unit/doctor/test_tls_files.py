"""Tests of zerotrust.doctor.tls_files."""

import datetime
from pathlib import Path

import pytest

from tests.support.authorities import ForeignCertificate, now
from zerotrust.doctor.tls_files import CertificateFile, examine_file, names_in, owner, root_digests
from zerotrust.pki import keys

HOUR = datetime.timedelta(hours=1)
ROOT = ForeignCertificate.root("Home CA")


class Files:
    """A folder with a root, a certificate and its key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.put(ROOT.issue("server", dns=("tunnel.example.com", "*.x.example.com")))
        (folder / "ca.crt").write_bytes(ROOT.pem)

    def put(self, issued: ForeignCertificate) -> None:
        (self.folder / "a.crt").write_bytes(issued.pem)
        (self.folder / "a.key").write_bytes(keys.to_pem(issued.key))
        (self.folder / "a.key").chmod(0o600)

    def checks(self, **changes: object) -> list[tuple[str, str]]:
        values: dict[str, object] = {
            "key": "server.cert_file",
            "path": f"{self.folder}/a.crt",
            "private_key": f"{self.folder}/a.key",
            "roots": f"{self.folder}/ca.crt",
            "names": ("tunnel.example.com",),
            "issue": "0trust ca issue server tunnel.example.com",
        }
        file = CertificateFile(**{**values, **changes})  # type: ignore[arg-type]
        self.found = [*examine_file(file, now())]
        return [(one.check, one.level) for one in self.found]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_files_that_are_well(files: Files) -> None:
    assert files.checks() == []
    assert files.checks(names=("a.x.example.com",), roots="", private_key="") == []


@pytest.mark.parametrize("name", ["other.example.com", "a.b.x.example.com", "192.0.2.1"])
def test_a_name_that_is_missing(files: Files, name: str) -> None:
    assert files.checks(names=(name,)) == [("tls.name", "broken")]
    assert files.found[0].seen == "it is for tunnel.example.com, *.x.example.com"


def test_dates(files: Files) -> None:
    files.put(
        ROOT.issue("s", dns=("tunnel.example.com",), start=now() - 9 * HOUR, end=now() - HOUR)
    )
    assert files.checks() == [("tls.expired", "broken")]
    files.put(ROOT.issue("s", dns=("tunnel.example.com",), end=now() + HOUR))
    assert files.checks() == [("tls.ends_soon", "warning")]
    assert files.checks(renewed=True) == []
    files.put(ROOT.issue("s", dns=("tunnel.example.com",), start=now() + 2 * HOUR))
    assert files.checks() == [("tls.not_yet_valid", "broken")]
    assert files.found[0].seen.endswith("UTC: 2 hours apart, like a time zone")
    files.put(ROOT.issue("s", dns=("tunnel.example.com",), start=now() + 50 * HOUR))
    files.checks()
    assert "time zone" not in files.found[0].seen


def test_another_authority(files: Files) -> None:
    files.put(ForeignCertificate.root("Old CA").issue("server", dns=("tunnel.example.com",)))
    assert files.checks() == [("tls.authority", "broken")]
    assert files.found[0].seen == "its issuer is Old CA, the authority is Home CA"


def test_keys(files: Files) -> None:
    key = files.folder / "a.key"
    key.chmod(0o644)
    assert files.checks() == [("tls.key_mode", "warning")]
    assert files.found[0].fix == f"run chmod 600 {key}"
    key.write_bytes(keys.to_pem(keys.generate()))
    key.chmod(0o600)
    assert files.checks() == [("tls.key_pair", "broken")]
    key.write_text("sealed")
    assert files.checks() == []
    key.unlink()
    assert files.checks() == [("tls.key_unreadable", "broken")]


def test_files_that_cannot_be_used(files: Files) -> None:
    (files.folder / "a.crt").write_text("no certificate")
    assert files.checks() == [("tls.unreadable", "broken")]
    assert root_digests(f"{files.folder}/a.crt") == []
    assert [len(one) for one in root_digests(f"{files.folder}/ca.crt")] == [32]


def test_words_for_a_certificate() -> None:
    issued = ROOT.issue("server", dns=("a", "b", "c", "d"), ip=("192.0.2.1",))
    assert owner(issued.der) == "a certificate for a, b, c by Home CA"
    assert names_in(issued.certificate) == ["a", "b", "c", "d", "192.0.2.1"]
    assert owner(ROOT.issue("plain").der) == "a certificate for plain by Home CA"
    assert owner(ROOT.issue().der) == "a certificate for no name by Home CA"
    assert owner(b"junk") == "a certificate that cannot be read"
