"""Tests of zerotrust.agent.agent_files."""

import datetime
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.authorities import ForeignCertificate
from zerotrust.agent.agent_files import AgentFilesWriter, configuration
from zerotrust.agent.join import JoinResult
from zerotrust.config.load import load_agent
from zerotrust.errors import PkiError
from zerotrust.pki import key_pair_files, keys
from zerotrust.pki.csr import CertificateRequest
from zerotrust.pki.join_token import JoinToken

LINE = JoinToken(server="[2001:db8::7]:8443", secret="t", fingerprint="0" * 64)
JOINED = JoinResult(
    agent_id="home",
    chain_pem=b"chain",
    root_pem=ForeignCertificate.root().pem,
    hosts=("*.lab.example.com", "pihole.example.com"),
    not_after=datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC),
    skew=None,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_exactly_the_four_files_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "agent"
    with AgentFilesWriter(folder, force=False) as writer:
        (pending,) = folder.iterdir()
        assert stat.S_IMODE(pending.stat().st_mode) == 0o600
        assert writer.finish(LINE, JOINED)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"agent.crt": 0o644, "agent.key": 0o600, "agent.yaml": 0o600, "ca.crt": 0o644}
    assert keys.read_key(folder / "agent.key").public_key() == writer.request.key.public_key()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    config = load_agent(folder / "agent.yaml").config
    assert (config.declared_id, config.server.address, config.services) == ("home", LINE.server, [])
    assert config.server.key == str(folder / "agent.key")


def test_the_uncommented_example_loads(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    text = configuration(LINE, JOINED)
    assert "*.lab.example.com, pihole.example.com" in text
    head, _, example = text.partition("services: []\n")
    path.write_text(head + "\n".join(line.removeprefix("# ") for line in example.splitlines()[1:]))
    (service,) = load_agent(path).config.services
    assert service.hostname == "pihole.example.com"


@pytest.mark.parametrize(
    ("hosts", "example"), [((), "app.example.com"), (("*.lab.example",), "app.lab.example")]
)
def test_the_example_without_granted_hosts(hosts: tuple[str, ...], example: str) -> None:
    text = configuration(LINE, JoinResult(**{**vars(JOINED), "hosts": hosts}))
    assert f'hostname: "{example}"' in text
    assert ("nothing yet" in text) is (not hosts)


def test_a_failed_attempt_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), AgentFilesWriter(tmp_path, force=False):
        raise RuntimeError
    assert names(tmp_path) == set()


@pytest.mark.parametrize("name", ["agent.key", "agent.crt", "ca.crt", "agent.yaml"])
def test_existing_files_are_kept_without_force(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(
        PkiError, match=f"{name}: exists already and is not overwritten; use --dir, or --force"
    ):
        AgentFilesWriter(tmp_path, force=False).__enter__()
    assert (tmp_path / name).read_text() == "mine"
    assert names(tmp_path) == {name}
    with AgentFilesWriter(tmp_path, force=True) as writer:
        fresh = writer.finish(LINE, JOINED)
    assert fresh is (name != "agent.yaml")
    assert ((tmp_path / name).read_text() == "mine") is (name == "agent.yaml")


def test_an_unusable_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PkiError, match="cannot create the folder"):
        AgentFilesWriter(tmp_path / "file", force=False).__enter__()
    gone = tmp_path / "gone"
    with AgentFilesWriter(gone, force=False) as writer:
        (gone / "agent.key").mkdir()
        with pytest.raises(PkiError, match=r"agent\.key: cannot be replaced"):
            writer.finish(LINE, JOINED)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_belong_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with AgentFilesWriter(tmp_path, force=False) as writer:
        writer.finish(LINE, JOINED)
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {12345}


def test_an_interrupted_join_leaves_a_matching_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ForeignCertificate.root()
    for name in ("home", "agent"):
        root.issue(name).store(tmp_path, name)
    chain = (tmp_path / "home.crt").read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with AgentFilesWriter(tmp_path, force=True) as writer:
        writer.request = CertificateRequest(pem=b"", key=keys.read_key(tmp_path / "home.key"))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(key_pair_files, "move_key", killed)
            writer.finish(LINE, replace(JOINED, chain_pem=chain))
    key_pair_files.complete(tmp_path / "agent.crt", tmp_path / "agent.key")
    assert (tmp_path / "agent.crt").read_bytes() == chain
    assert (tmp_path / "agent.key").read_bytes() == (tmp_path / "home.key").read_bytes()
