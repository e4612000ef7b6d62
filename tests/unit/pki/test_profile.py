"""Tests of zerotrust.pki.profile with the strict rules of OpenSSL and cryptography."""

import contextlib
import datetime
import ssl
from pathlib import Path
from typing import TypedDict

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from zerotrust.errors import PkiError
from zerotrust.net.tls import tunnel_client, tunnel_server
from zerotrust.pki import ca, csr, keys, profile
from zerotrust.pki.issuer import Issued, Issuer, ServerNames

DER = serialization.Encoding.DER
DAY = datetime.timedelta(days=1)
HOST = "tunnel.example.com"
NAMES = ServerNames(dns=[HOST])


def moment() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Files(TypedDict):
    """Arguments of the contexts in `net.tls`."""

    certificate: str
    key: str
    authority: str


class Chain:
    """A root, an issuer below it, and files for `net.tls`."""

    def __init__(
        self,
        folder: Path,
        *,
        permit_dns: list[str] | None = None,
        permit_ip: list[str] | None = None,
    ) -> None:
        self.folder = folder
        self.root = ca.create_root("Test CA")
        permitted = profile.alternative_names(dns=permit_dns or [], ip=permit_ip or [])
        below = ca.create_issuer(self.root, permitted=permitted)
        self.issuer = Issuer(certificate=below.certificate, key=below.key)
        self.authority = folder / "ca.crt"
        self.authority.write_bytes(self.root.certificate_pem)

    def server(self, names: ServerNames = NAMES) -> Files:
        asked = csr.create()
        return self._store(
            "server", asked, self.issuer.issue_server(asked.pem, names, DAY, moment())
        )

    def agent(self, name: str = "home") -> Files:
        asked = csr.create()
        return self._store(name, asked, self.issuer.issue_agent(name, asked.pem, DAY, moment()))

    def _store(self, name: str, asked: csr.CertificateRequest, issued: Issued) -> Files:
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(issued.chain_pem)
        key.write_bytes(keys.to_pem(asked.key))
        return {"certificate": str(certificate), "key": str(key), "authority": str(self.authority)}


def handshake(
    client: ssl.SSLContext, server: ssl.SSLContext, *, host: str = HOST
) -> tuple[ssl.SSLObject, ...]:
    """Both ends, done; strict beyond what the contexts ask for themselves."""
    for context in (client, server):
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(down, up, server_hostname=host),
        server.wrap_bio(up, down, server_side=True),
    )
    for _ in range(6):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends


def certificates(file: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(Path(file).read_bytes())


def test_both_ends_accept_each_other_by_the_root_alone(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    client, server = handshake(tunnel_client(**chain.agent()), tunnel_server(**chain.server()))
    assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == "0trust/1"
    assert server.getpeercert(True) == certificates(str(tmp_path / "home.crt"))[0].public_bytes(DER)


def test_what_an_older_issuer_has_issued_stays_good(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    old = chain.agent("old")
    below = ca.create_issuer(chain.root)
    chain.issuer = Issuer(certificate=below.certificate, key=below.key)
    server = tunnel_server(**chain.server())
    handshake(tunnel_client(**old), server)
    handshake(tunnel_client(**chain.agent("new")), server)


def test_each_certificate_is_good_for_its_side_only(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    agent, server = chain.agent(), chain.server()
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        handshake(tunnel_client(**server), tunnel_server(**server))
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        handshake(tunnel_client(**agent), tunnel_server(**agent))


def test_a_stranger_of_the_same_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    chain, other = Chain(tmp_path), Chain(tmp_path / "other")
    stranger = other.agent()
    stranger["authority"] = str(chain.authority)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tunnel_client(**stranger), tunnel_server(**chain.server()))


@pytest.mark.parametrize(
    "limits", [{"permit_dns": [HOST]}, {"permit_dns": ["example.com"], "permit_ip": ["192.0.2.7"]}]
)
def test_constraints_let_agents_and_the_named_server_through(
    tmp_path: Path, limits: dict[str, list[str]]
) -> None:
    """OpenSSL takes the agent id pi.hole.lan for a host name; the constraints must allow it."""
    chain = Chain(tmp_path, **limits)
    handshake(tunnel_client(**chain.agent("pi.hole.lan")), tunnel_server(**chain.server()))


@pytest.mark.parametrize(
    ("limits", "names", "host"),
    [
        ({"permit_dns": [HOST]}, ServerNames(dns=["bank.example.net"]), "bank.example.net"),
        ({"permit_dns": [HOST]}, ServerNames(ip=["192.0.2.7"]), "192.0.2.7"),
        ({"permit_dns": [HOST]}, ServerNames(ip=["2001:db8::7"]), "2001:db8::7"),
        ({"permit_ip": ["192.0.2.7"]}, NAMES, HOST),
        ({"permit_ip": ["192.0.2.7"]}, ServerNames(ip=["192.0.2.8"]), "192.0.2.8"),
    ],
)
def test_constraints_hold_against_other_servers(
    tmp_path: Path, limits: dict[str, list[str]], names: ServerNames, host: str
) -> None:
    chain = Chain(tmp_path, **limits)
    with pytest.raises(
        ssl.SSLCertVerificationError,
        match=r"permitted subtree violation|excluded subtree violation",
    ):
        handshake(tunnel_client(**chain.agent()), tunnel_server(**chain.server(names)), host=host)


def test_a_second_opinion(tmp_path: Path) -> None:
    chain = Chain(tmp_path, permit_dns=[HOST])
    policy = PolicyBuilder().store(Store([chain.root.certificate])).time(moment())
    leaf, *above = certificates(chain.server()["certificate"])
    found = policy.build_server_verifier(x509.DNSName(HOST)).verify(leaf, above)
    assert found == [leaf, chain.issuer.certificate, chain.root.certificate]
    leaf, *above = certificates(chain.agent()["certificate"])
    assert len(policy.build_client_verifier().verify(leaf, above).chain) == 3
    with pytest.raises(VerificationError):
        policy.build_client_verifier().verify(leaf, [])


def test_whole_seconds_within_the_issuers_life() -> None:
    start = datetime.datetime(2030, 1, 1, 12, 0, 0, 999, tzinfo=datetime.UTC)
    root = ca.create_root("Test CA", days=1, now=start).certificate
    life = profile.validity(start, datetime.timedelta(seconds=60), within=root)
    assert (life.start, life.end) == (
        start.replace(microsecond=0),
        start.replace(minute=1, microsecond=0),
    )
    assert profile.validity(start, 9 * DAY, within=root).end == root.not_valid_after_utc
    with pytest.raises(PkiError, match="expired on 2030-01-02"):
        profile.validity(start + DAY, DAY, within=root)
    with pytest.raises(PkiError, match="set this machine's clock"):
        profile.validity(start - DAY, DAY, within=root)
    elsewhere = start.astimezone(datetime.timezone(datetime.timedelta(hours=5)))
    assert profile.validity(elsewhere, DAY) == profile.validity(start, DAY)


@pytest.mark.parametrize(
    "length", [datetime.timedelta(0), -DAY, 36501 * DAY, datetime.timedelta(milliseconds=999)]
)
def test_lives_without_sense_are_refused(length: datetime.timedelta) -> None:
    with pytest.raises(PkiError, match="invalid validity"):
        profile.validity(moment(), length)


@pytest.mark.parametrize("host", ["", "a b", "a:80", "[::1]", "http://a"])
def test_what_is_not_a_dns_name_is_refused(host: str) -> None:
    with pytest.raises(PkiError):
        profile.alternative_names(dns=[host], ip=[])


def test_what_is_not_an_address_is_refused() -> None:
    with pytest.raises(PkiError, match='"localhost" is not an IP address'):
        profile.alternative_names(dns=[], ip=["localhost"])
