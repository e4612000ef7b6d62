"""Of our authority or not, whatever its dates say."""

import datetime
from datetime import UTC, timedelta
from pathlib import Path

from tests.kits.authorities import Foreign
from zerotrust.pki import files, request
from zerotrust.pki.files import load_authority, load_certificate, load_certificates
from zerotrust.pki.lineage import anchor, is_ours


def test_our_issuer_an_earlier_one_and_the_root_itself(tmp_path: Path) -> None:
    files.create_authority(tmp_path)
    files.issue_agent(tmp_path, "home")
    root, chain = load_certificate(tmp_path / "ca.crt"), load_certificates(tmp_path / "home.crt")
    assert is_ours(chain, load_authority(tmp_path), root)
    files.rotate_issuer(tmp_path)
    assert is_ours(chain, load_authority(tmp_path), root)
    assert not is_ours(chain[:1], load_authority(tmp_path), root), "the issuer of old has to be shown"


def test_dates_do_not_matter(tmp_path: Path) -> None:
    files.create_authority(tmp_path)
    issuer = load_authority(tmp_path)
    now = datetime.datetime.now(UTC)
    issued = issuer.issue_agent("home", request.create().pem, timedelta(seconds=1), now - timedelta(seconds=-1))
    path = tmp_path / "old.crt"
    path.write_bytes(issued.chain_pem)
    assert is_ours(load_certificates(path), issuer, load_certificate(tmp_path / "ca.crt"))


def test_the_names_of_ours_are_not_enough(tmp_path: Path) -> None:
    files.create_authority(tmp_path)
    issuer, root = load_authority(tmp_path), load_certificate(tmp_path / "ca.crt")
    name = issuer.certificate.subject.rfc4514_string().removeprefix("CN=")
    thief = Foreign.root(name)
    assert not is_ours([thief.issue("home").certificate, thief.certificate], issuer, root)


def test_a_root_of_the_same_name_is_not_the_root(tmp_path: Path) -> None:
    files.create_authority(tmp_path)
    files.create_authority(tmp_path / "other")
    issuer = files.load_certificate(tmp_path / "issuer.crt")
    roots = [files.load_certificate(tmp_path / name / "ca.crt") for name in ("other", "")]
    assert anchor([issuer], roots) == roots[1]
    assert anchor([issuer], roots[:1]) is None
