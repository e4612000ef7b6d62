"""Tests of zerotrust.server.ops.stored_certificates."""

from pathlib import Path

import pytest

from tests.support.caddy_storage import store_certificate
from zerotrust.server.ops.stored_certificates import certificate_files, is_fresh

HOST = "app.example.com"
LIFETIME = 90 * 24 * 3600


def test_the_certificates_of_a_host_name(tmp_path: Path) -> None:
    assert certificate_files(tmp_path, HOST) == []
    assert certificate_files(None, HOST) == []
    file = store_certificate(tmp_path, HOST, begins=0, ends=LIFETIME)
    assert certificate_files(tmp_path, HOST) == [file]
    assert certificate_files(tmp_path, "other.example.com") == []
    assert certificate_files(tmp_path, "x" * 300) == []


@pytest.mark.parametrize(("part", "fresh"), [(0.01, True), (0.59, True), (0.61, False), (2, False)])
def test_a_certificate_is_fresh_until_it_may_be_renewed(
    tmp_path: Path, part: float, fresh: bool
) -> None:
    file = store_certificate(tmp_path, HOST, begins=0, ends=LIFETIME)
    assert is_fresh(file, LIFETIME * part) is fresh


def test_a_file_that_cannot_be_read_is_not_fresh(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert not is_fresh(file, 0)
    file.write_text("half of a certif")
    assert not is_fresh(file, 0)
