"""Tests of zerotrust.config.legacy."""

from pathlib import Path

import pytest

from zerotrust.config.document import Source
from zerotrust.config.legacy import (
    EXPOSE,
    flatten_websocket,
    rename_level,
    restrict_api_to_loopback,
)


def source(tmp_path: Path, text: str) -> Source:
    path = tmp_path / "server.yaml"
    path.write_text(text)
    return Source(path, overrides={}, variables={})


def test_the_older_form_of_the_level(tmp_path: Path) -> None:
    found = source(tmp_path, "log_level: debug\nlogging:\n")
    rename_level(found)
    assert found.data == {"logging": {"level": "debug"}}
    assert found.renamed == {("logging", "level"): ("log_level",)}
    for text in (
        "log_level: debug\nlogging: 5\n",
        "log_level:\n",
        "logging: {level: info}\nlog_level: debug\n",
    ):
        found = source(tmp_path, text)
        rename_level(found)
        assert found.renamed == {}
        assert "log_level" not in found.data
    assert found.ineffective == {("log_level",): "logging.level is given as well and applies"}


@pytest.mark.parametrize(
    ("api", "address"),
    [
        ('{listen_addr: ":9443"}', "127.0.0.1:9443"),
        (f'{{listen_addr: ":9443", {EXPOSE}: false}}', "127.0.0.1:9443"),
        (f'{{listen_addr: ":9443", {EXPOSE}: true}}', ":9443"),
        ('{listen_addr: "0.0.0.0:9443"}', "0.0.0.0:9443"),
        ('{listen_addr: "unix:/x"}', "unix:/x"),
        ("{listen_addr: 5}", 5),
    ],
)
def test_the_api_of_all_interfaces_is_loopback(tmp_path: Path, api: str, address: object) -> None:
    found = source(tmp_path, f"api: {api}\n")
    restrict_api_to_loopback(found)
    assert found.data["api"]["listen_addr"] == address
    assert [(p.severity, p.key) for p in found.problems] == (
        [("warning", "api.listen_addr")] if address == "127.0.0.1:9443" else []
    )


@pytest.mark.parametrize("text", ["api: 5", "api:", "server: {}"])
def test_a_file_without_api(tmp_path: Path, text: str) -> None:
    found = source(tmp_path, text)
    restrict_api_to_loopback(found)
    assert found.problems == []


def test_a_section_of_websocket_sets_limits(tmp_path: Path) -> None:
    found = source(
        tmp_path,
        "services: [{websocket: {enabled: false, idle_timeout: 30s, ping: 30s, max_per_user: 2}}]\n",
    )
    flatten_websocket(found)
    assert found.problems == []
    assert found.data["services"] == [
        {
            "websocket": False,
            "websocket_idle_timeout": "30s",
            "websocket_limits": {"ping": "30s"},
            "max_websockets_per_user": 2,
        }
    ]
    assert found.renamed["services", 0, "websocket_limits", "ping"] == (
        "services",
        0,
        "websocket",
        "ping",
    )


@pytest.mark.parametrize(
    ("key", "severity"),
    [("max_mesage", "error"), ("max_per_clients", "error"), ("idel_timeout", "warning")],
)
def test_a_misspelt_limit_is_an_error(tmp_path: Path, key: str, severity: str) -> None:
    found = source(tmp_path, f"services: [{{websocket: {{{key}: 1s}}}}]\n")
    flatten_websocket(found)
    assert [problem.severity for problem in found.problems] == [severity]
