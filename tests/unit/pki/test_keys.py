"""Tests of zerotrust.pki.keys."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519

from tests.unit.pki.strong_keys import GENERATORS
from zerotrust.errors import PkiError
from zerotrust.pki import keys


def test_a_key_survives_its_file_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    key = keys.generate()
    path = tmp_path / "a.key"
    old = os.umask(0)
    try:
        keys.write(path, keys.to_pem(key), mode=keys.PRIVATE, replace=False)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.read_key(path).public_key() == key.public_key()
    assert isinstance(key.curve, ec.SECP256R1)
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    keys.write(path, b"one", mode=keys.PUBLIC, replace=False)
    with pytest.raises(PkiError, match="exists already"):
        keys.write(path, b"two", mode=keys.PUBLIC, replace=False)
    assert path.read_bytes() == b"one"
    keys.write(path, b"three", mode=keys.PUBLIC, replace=True)
    assert path.read_bytes() == b"three"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_file_systems_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = tmp_path / "a"
    keys.write(path, b"one", mode=keys.PRIVATE, replace=False)
    with pytest.raises(PkiError, match="exists already"):
        keys.write(path, b"two", mode=keys.PRIVATE, replace=False)
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PkiError, match="No space left on device; choose a folder"):
        keys.write(tmp_path / "a", b"one", mode=keys.PRIVATE, replace=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="cannot write: No such file or directory"):
        keys.write(tmp_path / "no" / "a", b"", mode=keys.PRIVATE, replace=False)


def test_what_is_not_a_usable_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    with pytest.raises(PkiError, match=r"a\.key: no such private key; create it with 0trust ca"):
        keys.read_key(path)
    path.write_text("nonsense")
    with pytest.raises(PkiError, match="not a private key in PEM form"):
        keys.read_key(path)
    path.write_bytes(keys.to_pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)))
    with pytest.raises(PkiError, match="too weak; use P-256"):
        keys.read_key(path)
    path.write_bytes(
        x25519.X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(PkiError, match="of a kind that is not used here"):
        keys.read_key(path)
    with pytest.raises(PkiError, match="cannot read the private key: Is a directory"):
        keys.read_key(tmp_path)


def test_a_key_with_a_passphrase(tmp_path: Path) -> None:
    key, path = keys.generate(), tmp_path / "a.key"
    path.write_bytes(keys.to_pem(key, b"correct horse battery"))
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
    assert keys.read_key(path, b"correct horse battery").public_key() == key.public_key()
    with pytest.raises(PkiError, match="the key is encrypted; give the file with its passphrase"):
        keys.read_key(path)
    with pytest.raises(PkiError, match="or encrypted with another passphrase") as refused:
        keys.read_key(path, b"another horse battery")
    assert "horse" not in str(refused.value)
    path.write_bytes(keys.to_pem(key))
    with pytest.raises(PkiError, match="a passphrase is given, but the key is not encrypted"):
        keys.read_key(path, b"correct horse battery")


def test_the_passphrase_is_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "pass"
    for text in (
        b"correct horse battery",
        b"correct horse battery\n",
        b"correct horse battery\r\nand notes\n",
    ):
        path.write_bytes(text)
        assert keys.read_passphrase(path) == b"correct horse battery"
    path.write_bytes(b"short\nand a long second line")
    with pytest.raises(PkiError, match="fewer than 16 characters; make a good one: openssl rand"):
        keys.read_passphrase(path)
    with pytest.raises(PkiError, match="cannot read the passphrase: No such file"):
        keys.read_passphrase(tmp_path / "no")


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_strong_keys_of_all_kinds(make: Callable[[], keys.Key], tmp_path: Path) -> None:
    key = make()
    path = tmp_path / "key"
    path.write_bytes(keys.to_pem(key))
    assert keys.read_key(path).public_key() == keys.strong(key.public_key()) == key.public_key()
    assert (keys.signing_hash(key) is None) is isinstance(key, ed25519.Ed25519PrivateKey)
