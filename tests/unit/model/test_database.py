"""Tests of zerotrust.model.database."""

from pathlib import Path

import pytest

from zerotrust.config.document import Source
from zerotrust.config.secret_files import inline_files
from zerotrust.model.database import DatabaseConfig
from zerotrust.model.server import ServerConfig


def test_the_database_is_one_file_unless_another_is_named() -> None:
    assert DatabaseConfig(dir="/var/lib/0trust").database == "sqlite:////var/lib/0trust/state.db"
    assert (
        DatabaseConfig.model_validate({"url": "postgresql://db/0trust"}).database
        == "postgresql://db/0trust"
    )


def test_a_url_with_a_password_comes_from_a_file_and_is_not_shown() -> None:
    state = DatabaseConfig(url_file="/run/secrets/url")
    assert state.files == {"url_file": "/run/secrets/url"}
    filled = state.with_files({"/run/secrets/url": b"postgresql://me:pass@db/x\n"})
    assert filled.database == "postgresql://me:pass@db/x"
    assert "pass@" not in repr(filled)
    assert DatabaseConfig().with_files({}) == DatabaseConfig()


@pytest.mark.parametrize("content", [b"mysql://db/x", b"\xff\xfe", b""])
def test_a_file_without_valid_url_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"invalid database URL|not text"):
        DatabaseConfig(url_file="f").with_files({"f": content})


def test_the_configuration_file_names_the_file_of_the_url(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://me:pass@db/x\n")
    (tmp_path / "server.yaml").write_text("state: {url_file: url}\n")
    source = Source(tmp_path / "server.yaml", overrides={}, variables={})
    config, files = inline_files(source, ServerConfig.model_validate(source.data))
    assert config.state.database == "postgresql://me:pass@db/x"
    assert files == [tmp_path / "url"]


def test_no_host_is_granted_by_default() -> None:
    config = ServerConfig()
    assert (config.grants, config.unsafe_agents_may_claim_any_host) == ({}, False)
    granted = ServerConfig.model_validate(
        {"grants": {"home": ["Pi.Example.com.", "*.Lab.example.com"]}}
    ).grants
    assert granted == {"home": ["pi.example.com", "*.lab.example.com"]}
