"""Tests of zerotrust.agent.affinity_secret."""

import stat
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from zerotrust.agent.affinity_secret import cookie_secret
from zerotrust.errors import PkiError
from zerotrust.model.agent import AgentConfig
from zerotrust.pki import keys


def config(key: Path, *, affinity: bool = True) -> AgentConfig:
    service: dict[str, Any] = {
        "hostname": "a.test",
        "backend": "x:1",
        "load_balancing": {"session_affinity": affinity},
    }
    return AgentConfig.model_validate({"server": {"key": str(key)}, "services": [service]})


def renew(key: Path) -> Path:
    key.write_bytes(keys.to_pem(keys.generate()))
    return key


def test_the_secret_outlives_the_key(tmp_path: Path) -> None:
    key = renew(tmp_path / "agent.key")
    secret = cookie_secret(config(key))
    assert len(secret) == 32
    assert cookie_secret(config(renew(key))) == secret
    kept = tmp_path / "agent.affinity"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.write_bytes(b"cut")
    assert cookie_secret(config(key)) not in (b"cut", secret)
    assert cookie_secret(config(renew(key))) == kept.read_bytes()


def test_no_secret_is_written_without_affinity(tmp_path: Path) -> None:
    assert cookie_secret(config(tmp_path / "none.key", affinity=False)) == b""
    assert not list(tmp_path.iterdir())


def test_a_read_only_folder_is_logged(tmp_path: Path) -> None:
    key = renew(tmp_path / "agent.key")
    (tmp_path / "agent.affinity").mkdir()
    with capture_logs() as logs:
        secret = cookie_secret(config(key))
        assert cookie_secret(config(key)) == secret
    assert len(secret) == 32
    assert [entry["log_level"] for entry in logs] == ["warning", "warning"]
    assert "agent.affinity: cannot write" in logs[0]["reason"]


def test_a_missing_key_raises(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="no such private key"):
        cookie_secret(config(tmp_path / "agent.key"))
