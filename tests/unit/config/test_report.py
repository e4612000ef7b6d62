"""Tests of zerotrust.config.report."""

from pathlib import Path

from zerotrust.config.load import examine
from zerotrust.config.report import keys

FOLDER = Path(__file__).parents[2] / "config"


def told(path: Path) -> dict[str, tuple[str, str]]:
    return {key.key: (key.state, key.note) for key in keys(examine(path)[1])}


def test_what_becomes_of_each_key_of_the_originals_last_server() -> None:
    found = told(FOLDER / "valid" / "server-era-c.yaml")
    assert len(found) == 20
    assert found["agents.listen"] == ("renamed", "now server.listen_addr")
    assert found["tls.mode"] == ("applied", "")
    assert found["logging.level"] == ("applied", "")
    assert found["log_level"] == ("without effect", "logging.level is given as well and wins")
    assert found["metrics.addr"] == ("without effect", "there are no metrics in this release")
    assert "server.listen_addr" not in found


def test_the_nearest_reason_counts(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        "agent_id: a\nlog_level: loud\nzzz: {inner: 1}\nservices:\n"
        "  - {hostname: a.example.com, hosts: [ok.example.com, '*'], tls: ~, serivce: 5}\n"
    )
    assert told(path) == {
        "agent_id": ("applied", ""),
        "log_level": (
            "refused",
            'expected one of debug, info, warn, warning, error, fatal; found "loud"',
        ),
        "zzz.inner": ("without effect", "unknown key, it is ignored"),
        # The service lacks a backend, which is not the fault of the keys that it has.
        "services[0].hostname": ("applied", ""),
        "services[0].hosts": ("refused", '"*": wildcards are not supported, name each host'),
        "services[0].tls": ("applied", ""),
        "services[0].serivce": ("without effect", "unknown key, it is ignored"),
    }


def test_they_come_in_the_order_of_the_file() -> None:
    for path in [*(FOLDER / "valid").glob("*.yaml"), *(FOLDER / "invalid").glob("*.yaml")]:
        places = [(key.line, key.column) for key in keys(examine(path)[1])]
        assert places == sorted(places)


def test_a_file_that_cannot_be_read_has_no_keys(tmp_path: Path) -> None:
    assert told(tmp_path / "no.yaml") == {}
