"""Tests of zerotrust.pki.keys."""

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

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
    assert keys.read_key(path).private_numbers() == key.private_numbers()
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


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    locked = keys.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    path.write_bytes(locked)
    with pytest.raises(PkiError, match="the key has a password"):
        keys.read_key(path)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(
        other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises(PkiError, match="not an ECDSA key"):
        keys.read_key(path)
    with pytest.raises(PkiError, match="cannot read the private key: Is a directory"):
        keys.read_key(tmp_path)
