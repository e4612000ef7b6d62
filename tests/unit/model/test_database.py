"""Tests of zerotrust.model.database."""

import pytest

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
    filled = state.with_files({"url_file": b"postgresql://me:pass@db/x\n"})
    assert filled.database == "postgresql://me:pass@db/x"
    assert "pass@" not in repr(filled)
    assert DatabaseConfig().with_files({}) == DatabaseConfig()


@pytest.mark.parametrize("content", [b"mysql://db/x", b"\xff\xfe", b""])
def test_a_file_without_valid_url_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"invalid database URL|not text"):
        DatabaseConfig(url_file="f").with_files({"url_file": content})


def test_no_host_is_granted_by_default() -> None:
    config = ServerConfig()
    assert (config.grants, config.unsafe_agents_may_claim_any_host) == ({}, False)
    granted = ServerConfig.model_validate(
        {"grants": {"home": ["Pi.Example.com.", "*.Lab.example.com"]}}
    ).grants
    assert granted == {"home": ["pi.example.com", "*.lab.example.com"]}
