"""Tests of zerotrust.agent.expired_renewal, against a real agent listener."""

import datetime
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from tests.support.agent_listener import AgentListenerFixture, running_listener
from tests.support.authorities import issue_server_at
from zerotrust.agent import enrollment_client
from zerotrust.agent.expired_renewal import renew_expired
from zerotrust.agent.renewal import Renewal
from zerotrust.errors import AgentRevoked, JoinError, PkiError
from zerotrust.model.agent import ServerAddress
from zerotrust.pki import ca_directory, csr, keys
from zerotrust.tunnel.messages import Renew

pytestmark = pytest.mark.anyio


def server_of(listener: AgentListenerFixture, folder: Path, **changed: object) -> ServerAddress:
    """Return the server section of an agent whose certificate expired two minutes ago."""
    made = csr.create()
    now = datetime.datetime.now(UTC)
    issued = ca_directory.load_authority(folder).issue_agent(
        "home", made.pem, timedelta(minutes=1), now - timedelta(minutes=3)
    )
    keys.write(folder / "home.crt", issued.chain_pem, mode=keys.PUBLIC, replace=True)
    keys.write(folder / "home.key", keys.to_pem(made.key), mode=keys.PRIVATE, replace=True)
    said = {
        "address": f"127.0.0.1:{listener.port}",
        "server_name": "localhost",
        "ca_cert": str(folder / "ca.crt"),
        "transport": "direct",
    }
    said |= {"cert": str(folder / "home.crt"), "key": str(folder / "home.key")}
    return ServerAddress.model_validate({**said, **changed})


async def test_an_expired_certificate_is_replaced(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        server = server_of(listener, tmp_path)
        now = datetime.datetime.now(UTC).timestamp()
        renewal = Renewal(Path(server.cert), Path(server.key), Path(server.ca_cert))
        assert renewal.expired(now) and renewal.due(now)
        assert renewal.store(await renew_expired(server, renewal.request(now))).until
        assert not renewal.expired(now)
        assert (
            ca_directory.load_certificate(Path(server.cert)).public_key()
            == keys.read_key(Path(server.key)).public_key()
        )
        assert listener.one_token.asked == [("home", "127.0.0.1")]


async def test_a_proof_by_another_key_is_refused(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        server = server_of(listener, tmp_path)
        keys.write(Path(server.key), keys.to_pem(keys.generate()), mode=keys.PRIVATE, replace=True)
        with pytest.raises(JoinError, match="did not sign this"):
            await renew_expired(server, Renew(csr=csr.create().pem.decode()))


async def test_the_servers_reason_is_reported(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        server = server_of(listener, tmp_path)
        asked = Renew(csr=csr.create().pem.decode())
        listener.one_token.failure = AgentRevoked("this agent was revoked")
        with pytest.raises(JoinError, match="refuses: this agent was revoked"):
            await renew_expired(server, asked)
        listener.one_token.failure = PkiError("/secret/path")
        with pytest.raises(JoinError, match="cannot issue certificates at the moment"):
            await renew_expired(server, asked)


async def test_nothing_is_sent_to_a_server_of_another_authority(tmp_path: Path) -> None:
    (other := tmp_path / "other").mkdir()
    ca_directory.create_authority(other)
    async with running_listener(tmp_path / "listener") as listener:
        server = server_of(listener, tmp_path / "listener", ca_cert=str(other / "ca.crt"))
        with pytest.raises(JoinError, match=r"not from the CA that server.ca_cert holds"):
            await renew_expired(server, Renew(csr=csr.create().pem.decode()))
        assert not listener.one_token.asked


async def test_a_future_server_certificate_reports_clock_skew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test shifts the dates instead of the clock and lowers MIN_SKEW, so that skew is seen."""
    start = datetime.datetime.now(UTC) + timedelta(hours=1)
    async with running_listener(tmp_path) as listener:
        issue_server_at(tmp_path, "localhost", start)
        listener.agent_listener.reconfigure(listener.context())
        server = server_of(listener, tmp_path)
        with pytest.raises(JoinError, match="is not valid yet; issue it again on the server"):
            await renew_expired(server, Renew(csr=csr.create().pem.decode()))
        monkeypatch.setattr(enrollment_client, "MIN_SKEW", timedelta(days=-1))
        with pytest.raises(JoinError, match="cannot be verified: this machine's clock is"):
            await renew_expired(server, Renew(csr=csr.create().pem.decode()))
        assert not listener.one_token.asked


async def test_server_name_is_verified(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        server = server_of(listener, tmp_path, server_name="tunnel.example.com")
        with pytest.raises(JoinError, match=r'not for "tunnel.example.com"'):
            await renew_expired(server, Renew(csr=csr.create().pem.decode()))
