"""Tests of zerotrust.cli.ca."""

import json
from pathlib import Path

import pytest

from zerotrust.cli.main import status


def test_from_nothing_to_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--dir", str(tmp_path / "certs")]
    assert status(["ca", "init", *folder, "--name", "Home CA"]) == 0
    assert status(["ca", "issue", "agent", "pihole", *folder, "--days", "30"]) == 0
    server = [
        "ca",
        "issue",
        "server",
        "tunnel.example.com",
        "--dns",
        "localhost",
        "--ip",
        "127.0.0.1",
    ]
    assert status([*server, *folder]) == 0
    made = capsys.readouterr().out
    assert f"{tmp_path}/certs/pihole.key: its private key" in made
    assert status(["ca", "show", *folder]) == 0
    shown = capsys.readouterr().out
    assert "authority Home CA" in shown
    assert "for          tunnel.example.com, localhost, 127.0.0.1" in shown
    assert "(29 days left)" in shown
    assert status(["ca", "show", "--json", *folder]) == 0
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)["certificates"]}
    server = told["tunnel.example.com"]
    assert (server["role"], server["names"][0], server["has_key"]) == (
        "server",
        "tunnel.example.com",
        True,
    )
    pihole = told["pihole"]
    assert pihole["not_after"] - pihole["not_before"] == pytest.approx(30 * 86400, abs=600)
    assert server["path"].endswith("tunnel.example.com.crt")


def test_what_exists_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--dir", str(tmp_path)]
    assert status(["ca", "init", *folder]) == 0
    assert status(["ca", "init", *folder]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/ca.key: exists already and is not overwritten; move it away first\n"
    )
    assert status(["ca", "issue", "agent", "a", *folder]) == 0
    assert status(["ca", "issue", "agent", "a", *folder]) == 1
    assert status(["ca", "issue", "agent", "a", "--force", *folder]) == 0


def test_no_authority(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["ca", "issue", "agent", "a", "--dir", str(tmp_path)]) == 1
    assert "no authority here; create one with: 0trust ca init" in capsys.readouterr().err


def test_an_ended_certificate_is_shown_as_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import datetime

    from zerotrust.pki import ca

    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=20)
    (tmp_path / "ca.crt").write_bytes(ca.create_root("Old CA", days=10, now=past).certificate_pem)
    assert status(["ca", "show", "--dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "(EXPIRED)" in shown
    assert "private key  elsewhere" in shown


def test_rotation_and_passphrases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, secret = ["--dir", str(tmp_path / "certs")], tmp_path / "pass"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o600)
    locked = ["--passphrase-file", str(secret)]
    assert status(["ca", "init", *folder, *locked, "--permit-dns", "tunnel.example.com"]) == 0
    assert "ENCRYPTED" in (tmp_path / "certs" / "issuer.key").read_text()
    assert "ENCRYPTED" in (tmp_path / "certs" / "ca.key").read_text()
    assert status(["ca", "issue", "server", "tunnel.example.com", *folder]) == 1
    assert "the key is encrypted; give the file with its passphrase" in capsys.readouterr().err
    assert status(["ca", "issue", "server", "tunnel.example.com", *folder, *locked]) == 0
    assert status(["ca", "rotate", *folder, *locked, "--days", "100"]) == 0
    assert status(["ca", "issue", "agent", "pihole", *folder, *locked]) == 0
    said = capsys.readouterr()
    assert "certificates that it issued stay valid until they expire" in said.out
    assert not said.err
    assert "correct horse" not in said.out
    assert status(["ca", "show", *folder]) == 0
    assert "(99 days left)" in capsys.readouterr().out


def test_a_passphrase_that_everybody_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "pass"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o644)
    assert status(["ca", "init", "--dir", str(tmp_path), "--passphrase-file", str(secret)]) == 0
    assert f"warning: all users of this machine can read {secret}" in capsys.readouterr().err
