"""A certificate and its key change together, wherever the program is killed."""

from pathlib import Path

import pytest

from tests.support.authorities import ForeignCertificate
from zerotrust.errors import PkiError
from zerotrust.pki import key_pair_files, keys
from zerotrust.pki.ca_directory import load_certificate


def made(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "a.crt", folder / "a.key"
    chain, key_pem = new()
    keys.write(certificate, chain, mode=keys.PUBLIC, replace=False)
    keys.write(key, key_pem, mode=keys.PRIVATE, replace=False)
    return certificate, key


def new() -> tuple[bytes, bytes]:
    issued = ForeignCertificate.root().issue("home")
    from cryptography.hazmat.primitives.serialization import Encoding

    return issued.certificate.public_bytes(Encoding.PEM), keys.to_pem(issued.key)


def fits(certificate: Path, key: Path) -> bool:
    return load_certificate(certificate).public_key() == keys.read_key(key).public_key()


def test_both_are_new_and_the_key_is_its_owners_alone(tmp_path: Path) -> None:
    certificate, key = made(tmp_path)
    chain, key_pem = new()
    key_pair_files.replace(certificate, key, chain=chain, key_pem=key_pem)
    assert (certificate.read_bytes(), key.read_bytes()) == (chain, key_pem)
    assert key.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.crt", "a.key"]


@pytest.mark.parametrize("step", range(4))
def test_killed_at_any_step_the_pair_fits_after_completion(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = made(tmp_path)
    before = certificate.read_bytes()
    calls = 0

    def killed(function: object) -> object:
        def inner(*args: object, **keys_: object) -> object:
            nonlocal calls
            if calls == step:
                raise KeyboardInterrupt
            calls += 1
            return function(*args, **keys_)  # type: ignore[operator]

        return inner

    with monkeypatch.context() as patch:
        patch.setattr(keys, "write", killed(keys.write))
        patch.setattr(key_pair_files, "move_key", killed(key_pair_files.move_key))
        chain, key_pem = new()
        if step < 3:
            with pytest.raises(KeyboardInterrupt):
                key_pair_files.replace(certificate, key, chain=chain, key_pem=key_pem)
        else:
            key_pair_files.replace(certificate, key, chain=chain, key_pem=key_pem)
    key_pair_files.complete(certificate, key)
    assert fits(certificate, key)
    assert (certificate.read_bytes() == before) == (step < 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.crt", "a.key"]


def test_a_key_that_waits_and_fits_nothing_is_thrown_away(tmp_path: Path) -> None:
    certificate, key = made(tmp_path)
    (tmp_path / "a.key.next").write_text("half a k")
    key_pair_files.complete(certificate, key)
    assert fits(certificate, key)
    assert not (tmp_path / "a.key.next").exists()


def test_what_fits_nothing_and_cannot_be_removed_is_left(tmp_path: Path) -> None:
    certificate, key = made(tmp_path)
    (tmp_path / "a.key.next").mkdir()
    key_pair_files.complete(certificate, key)
    assert fits(certificate, key)


def test_a_key_that_is_prepared_fits_nothing_yet(tmp_path: Path) -> None:
    certificate, key = made(tmp_path)
    key_pair_files.prepare(certificate, key, new()[1])
    key_pair_files.complete(certificate, key)
    assert fits(certificate, key)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.crt", "a.key"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    certificate, key = made(tmp_path)
    chain, key_pem = new()
    with pytest.raises(PkiError, match="cannot write"):
        key_pair_files.replace(
            certificate, tmp_path / "gone" / "a.key", chain=chain, key_pem=key_pem
        )
    assert fits(certificate, key)
