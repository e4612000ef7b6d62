"""Tests of join tokens: the server's address and the fingerprint of its root."""

from pathlib import Path

import pytest

from tests.support.identities import authority
from zerotrust.errors import EnrollmentError, PkiError
from zerotrust.model.server import AgentListenerConfig
from zerotrust.pki import ca_directory, join_token
from zerotrust.pki.issuer import ServerNames
from zerotrust.server.identity.join_tokens import JoinTokens


def invitations(folder: Path, names: ServerNames, **said: str) -> JoinTokens:
    _, settings = authority(folder)
    made = ca_directory.issue_server(folder, "localhost", names, days=1)
    return JoinTokens(
        AgentListenerConfig(**{**settings.model_dump(), "cert_file": str(made.certificate), **said})
    )


NAMES = ServerNames(dns=["*.example.org", "tunnel.example.com"], ip=["127.0.0.1", "192.0.2.7"])


@pytest.mark.parametrize(
    ("wanted", "said", "address", "doubts"),
    [
        (None, {}, "tunnel.example.com:8443", 0),
        (None, {"listen_addr": "127.0.0.1:443"}, "tunnel.example.com:443", 0),
        (None, {"public_addr": "x.example.org"}, "x.example.org:8443", 0),
        (None, {"public_addr": "x.y.example.org:444"}, "x.y.example.org:444", 1),
        ("192.0.2.7:1", {"public_addr": "x.example.org"}, "192.0.2.7:1", 0),
        ("Tunnel.Example.COM.", {}, "tunnel.example.com:8443", 0),
        ("2001:db8::1", {}, "[2001:db8::1]:8443", 1),
        ("[2001:db8::1]:9", {}, "[2001:db8::1]:9", 1),
        ("localhost:9", {}, "localhost:9", 0),
    ],
)
def test_where_agents_reach_the_server(
    tmp_path: Path, wanted: str | None, said: dict[str, str], address: str, doubts: int
) -> None:
    found, warnings = invitations(tmp_path, NAMES, **said).address(wanted)
    assert (found, len(warnings)) == (address, doubts)
    assert all("agents will refuse it" in warning for warning in warnings)


def test_an_address_of_ipv6_in_the_certificate(tmp_path: Path) -> None:
    found = invitations(tmp_path, ServerNames(ip=["::1", "2001:db8::1"]))
    assert found.address(None) == ("[2001:db8::1]:8443", [])


@pytest.mark.parametrize("wanted", [None, "", ":8443", "host:0", "host:x", "a b:1:2"])
def test_no_address(tmp_path: Path, wanted: str | None) -> None:
    with pytest.raises(EnrollmentError):
        invitations(tmp_path, ServerNames(ip=["127.0.0.1"])).address(wanted)


def test_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PkiError):
        invitations(tmp_path, NAMES, cert_file=str(tmp_path / "none")).address("a:1")


def test_the_line_names_the_root(tmp_path: Path) -> None:
    made = invitations(tmp_path, NAMES)
    line = join_token.parse(made.create("tunnel.example.com:8443", "secret"))
    root = ca_directory.load_certificate(tmp_path / "ca.crt")
    assert (line.server, line.secret, line.fingerprint) == (
        "tunnel.example.com:8443",
        "secret",
        join_token.fingerprint(root),
    )
    (tmp_path / "second").mkdir()
    authority(tmp_path / "second")
    both = (tmp_path / "second" / "ca.crt").read_bytes() + (tmp_path / "ca.crt").read_bytes()
    (tmp_path / "ca.crt").write_bytes(both)
    assert join_token.parse(made.create("x:1", "secret")).fingerprint == line.fingerprint
    made.reconfigure(AgentListenerConfig(ca_file=str(tmp_path / "none")))
    with pytest.raises(PkiError):
        made.create("tunnel.example.com:8443", "secret")
