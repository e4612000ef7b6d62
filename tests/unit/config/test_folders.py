"""Tests of zerotrust.config.folders; tests/unit/server/test_app.py has the server's folders."""

from pathlib import Path

import pytest

from zerotrust.config.folders import key_warning
from zerotrust.config.load import check

AGENT = """
server: {address: "tunnel.example.com:8443", key: keys/agent.key, cert: keys/agent.crt, ca_cert: keys/ca.crt}
services: [{hostname: app.example.com, backend: "127.0.0.1:80"}]
"""
SERVER = """
server: {cert_file: keys/server.crt, key_file: keys/server.key, ca_file: keys/ca.crt}
authority: {cert_file: keys/issuer.crt, key_file: keys/issuer.key}
"""


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o1777, 0o3775])
def test_a_folder_where_only_owners_replace_files(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert key_warning(tmp_path / "agent.key") is None


def test_a_missing_folder(tmp_path: Path) -> None:
    assert key_warning(tmp_path / "gone" / "agent.key") is None


@pytest.mark.parametrize("mode", [0o770, 0o757])
@pytest.mark.parametrize(
    ("text", "keys"), [(AGENT, ["server.key"]), (SERVER, ["server.key_file", "authority.key_file"])]
)
def test_keys_that_others_may_replace_are_warned_about(
    tmp_path: Path, mode: int, text: str, keys: list[str]
) -> None:
    file, folder = tmp_path / "0trust.yaml", tmp_path / "keys"
    file.write_text(text)
    folder.mkdir()
    assert check(file) == []
    folder.chmod(mode)
    messages = [str(problem) for problem in check(file)]
    assert [
        line.partition(f": other users can write {folder} (mode {mode:04o})")[0].rpartition(" ")[2]
        for line in messages
    ] == keys
    assert all(line.endswith(f"chmod 700 {folder}") for line in messages)
