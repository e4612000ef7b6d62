"""Tests of zerotrust.server.access.refresh_seal."""

from pathlib import Path

import pytest

from zerotrust.errors import StateError
from zerotrust.server.access.refresh_seal import FILE, RefreshSeal


def test_a_token_is_opened_by_the_key_that_has_sealed_it(tmp_path: Path) -> None:
    sealed = RefreshSeal.load(tmp_path).seal("token")
    assert b"token" not in sealed
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert RefreshSeal.load(tmp_path).open(sealed) == "token"
    (tmp_path / FILE).unlink()
    other = RefreshSeal.load(tmp_path)
    assert other.open(sealed) is None
    assert other.open(b"") is None


def test_a_key_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("damaged")
    with pytest.raises(StateError, match=f"{tmp_path / FILE}: damaged"):
        RefreshSeal.load(tmp_path)
    with pytest.raises(StateError, match=str(tmp_path / "missing")):
        RefreshSeal.load(tmp_path / "missing")
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with pytest.raises(StateError, match=FILE):
        RefreshSeal.load(tmp_path)
