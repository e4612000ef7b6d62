"""Tests of zerotrust.server.identity.accepted_config."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerotrust.errors import SetupError
from zerotrust.model.database import DatabaseConfig
from zerotrust.server.identity import accepted_config
from zerotrust.server.identity.accepted_config import AcceptedConfig, ConfigText

URL = "postgresql://server:secret@db/state"
TEXT = ConfigText(
    {"server.yaml": "api: {}  # ü".encode(), "/etc/secret": bytes(range(256))},
    DatabaseConfig.model_validate({"dir": "/s", "url": URL}),
)


@pytest.fixture
def accepted() -> Iterator[AcceptedConfig]:
    made = AcceptedConfig.create()
    yield made
    made.close()
    made.close()


def test_a_worker_reads_what_its_parent_wrote_last(accepted: AcceptedConfig) -> None:
    accepted.write(TEXT)
    worker = AcceptedConfig(accepted.descriptor)
    assert worker.read() == TEXT
    assert worker.mark == accepted.mark == b"\x01"
    shorter = ConfigText({"server.yaml": b"x"}, DatabaseConfig())
    accepted.write(shorter)
    assert worker.read() == shorter
    assert worker.mark == accepted.mark == b"\x02"
    assert "secret" not in repr(TEXT)


def test_the_mark_stands_for_any_number(accepted: AcceptedConfig) -> None:
    accepted.number = 256
    assert accepted.mark == b"\x00"


def test_a_text_that_is_being_written_is_not_read(
    accepted: AcceptedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepted_config, "READ_TIMEOUT", 0.02)
    with pytest.raises(SetupError, match="has not written"):
        accepted.read()
    accepted.write(TEXT)
    os.pwrite(accepted.descriptor, b"#", 60)
    with pytest.raises(SetupError, match="has not written"):
        accepted.read()


def test_a_system_without_files_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    made = AcceptedConfig.create()
    made.write(TEXT)
    assert AcceptedConfig(made.descriptor).read() == TEXT
    made.close()
    monkeypatch.setattr(accepted_config.tempfile, "tempdir", str(tmp_path / "gone"))  # type: ignore[attr-defined]
    with pytest.raises(SetupError, match="cannot keep"):
        AcceptedConfig.create()


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    unusable = AcceptedConfig(descriptor)
    with pytest.raises(SetupError, match="cannot keep"):
        unusable.write(TEXT)
    with pytest.raises(SetupError, match="unreadable"):
        unusable.read()
    unusable.close()
