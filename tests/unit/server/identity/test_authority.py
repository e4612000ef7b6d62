"""The authority of a server's file: complete, readable, and believed by the server itself."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from zerotrust.errors import PkiError
from zerotrust.model.server import ServerConfig
from zerotrust.pki import ca_directory
from zerotrust.server.identity.authority import load_authority


def config(folder: Path, ca: str = "ca.crt", **authority: Any) -> ServerConfig:
    named = {
        key: str(folder / value) if isinstance(value, str) and key != "agent_lifetime" else value
        for key, value in authority.items()
    }
    return ServerConfig.model_validate(
        {"server": {"ca_file": str(folder / ca)}, "authority": named}
    )


def test_none(tmp_path: Path) -> None:
    assert load_authority(config(tmp_path)) is None


def test_the_issuer_below_the_root(tmp_path: Path) -> None:
    ca_directory.create_authority(tmp_path)
    made = load_authority(
        config(tmp_path, cert_file="issuer.crt", key_file="issuer.key", agent_lifetime="1h")
    )
    assert made is not None
    assert made.agent_lifetime == timedelta(hours=1)
    assert made.root_pem == (tmp_path / "ca.crt").read_bytes()
    assert made.issuer.certificate == ca_directory.load_certificate(tmp_path / "issuer.crt")


def test_a_root_that_issues_by_itself(tmp_path: Path) -> None:
    ca_directory.create_authority(tmp_path)
    assert load_authority(config(tmp_path, cert_file="ca.crt", key_file="ca.key")) is not None


def test_with_a_passphrase(tmp_path: Path) -> None:
    ca_directory.create_authority(tmp_path, passphrase=b"correct horse battery")
    (tmp_path / "passphrase").write_text("correct horse battery\n")
    (tmp_path / "wrong").write_text("battery staple correct\n")
    named = {"cert_file": "issuer.crt", "key_file": "issuer.key"}
    assert load_authority(config(tmp_path, **named, passphrase_file="passphrase")) is not None
    for wrong in ({}, {"passphrase_file": "wrong"}):
        with pytest.raises(PkiError):
            load_authority(config(tmp_path, **named, **wrong))


@pytest.mark.parametrize("half", ["cert_file", "key_file"])
def test_half_of_it(tmp_path: Path, half: str) -> None:
    with pytest.raises(PkiError, match="belong together"):
        load_authority(config(tmp_path, **{half: "issuer.crt"}))


def test_one_that_the_server_does_not_believe(tmp_path: Path) -> None:
    ca_directory.create_authority(tmp_path)
    ca_directory.create_authority(tmp_path / "other", name="Other")
    named = {"cert_file": "issuer.crt", "key_file": "issuer.key"}
    with pytest.raises(PkiError, match="would reject the agents that join"):
        load_authority(config(tmp_path, "other/ca.crt", **named))
    both = (tmp_path / "other" / "ca.crt").read_bytes() + (tmp_path / "ca.crt").read_bytes()
    (tmp_path / "both.crt").write_bytes(both)
    made = load_authority(config(tmp_path, "both.crt", **named))
    assert made is not None
    assert made.root_pem == both
