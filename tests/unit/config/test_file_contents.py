"""Tests of zerotrust.config.file_contents."""

from pathlib import Path

import pytest

from zerotrust.config.file_contents import FileContents
from zerotrust.config.load import load_server

TEXT = """
server: {workers: 2}
state: {url_file: url}
"""


def test_files_are_read_and_remembered(tmp_path: Path) -> None:
    (file := tmp_path / "a").write_bytes(b"12345")
    contents = FileContents()
    assert contents.read(file, 3) == b"123"
    assert contents.found == {str(file): b"123"}
    assert not contents.is_known(file)
    with pytest.raises(FileNotFoundError):
        contents.read(tmp_path / "b", 3)


def test_a_configuration_is_read_again_as_it_was(tmp_path: Path) -> None:
    (file := tmp_path / "server.yaml").write_text(TEXT)
    (url := tmp_path / "url").write_text("postgresql://x@y/z\n")
    url.chmod(0o600)
    loaded = load_server(file)
    assert set(loaded.contents) == {str(file), str(url)}
    assert "postgresql" not in repr(loaded)
    file.write_text("server: {workers: ")
    url.unlink()
    again = load_server(file, contents=loaded.contents)
    assert again.config == loaded.config
    assert again.contents == loaded.contents
