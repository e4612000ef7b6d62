"""Tests of zerotrust.agent.renewal and zerotrust.agent.accepted_certificate."""

import base64
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tests.support.authorities import ForeignCertificate
from zerotrust.agent.renewal import MAX_RETRY, MIN_RETRY, Renewal
from zerotrust.errors import PkiError
from zerotrust.pki import keys, profile
from zerotrust.pki.ca import create_root
from zerotrust.pki.ca_directory import load_certificate
from zerotrust.pki.issuer import Issued, Issuer
from zerotrust.pki.profile import BACKDATE
from zerotrust.pki.renewal_time import EARLIEST, LATEST
from zerotrust.tunnel.messages import Renew, Renewed

NOW = datetime.now(UTC).replace(microsecond=0)
AT = NOW.timestamp()
WEEK = 7 * 86400.0
ROOT = create_root("test", now=NOW - timedelta(days=1))
ISSUER = Issuer(certificate=ROOT.certificate, key=ROOT.key)


def files(
    folder: Path, *, life: float = WEEK, age: timedelta = timedelta(0)
) -> tuple[Path, Path, Path]:
    """Write the certificate of "home", its key and the agent's root."""
    start = NOW - age
    issued = ForeignCertificate(ROOT.certificate, ROOT.key).issue(
        "home",
        uris=("urn:0trust:agent:home",),
        start=start - BACKDATE,
        end=start + timedelta(seconds=life),
    )
    certificate, key, root = folder / "home.crt", folder / "home.key", folder / "ca.crt"
    keys.write(
        certificate, issued.certificate.public_bytes(Encoding.PEM), mode=keys.PUBLIC, replace=False
    )
    keys.write(key, keys.to_pem(issued.key), mode=keys.PRIVATE, replace=False)
    keys.write(root, ROOT.certificate_pem, mode=keys.PUBLIC, replace=False)
    return certificate, key, root


def answer(
    message: Renew, *, agent: str = "home", at: datetime = NOW, life: float = WEEK
) -> Renewed:
    issued = ISSUER.issue_agent(agent, message.csr.encode(), timedelta(seconds=life), at)
    return Renewed(chain=issued.chain_pem.decode())


@pytest.mark.parametrize("life", [60.0, WEEK, 365 * 86400.0])
def test_renewal_is_due_after_about_two_thirds_of_the_validity(tmp_path: Path, life: float) -> None:
    paths = files(tmp_path, life=life)
    assert not Renewal(*paths).due(AT + life * EARLIEST - 1)
    assert Renewal(*paths).due(AT + life * LATEST + 1)


def test_agents_renew_at_different_times(tmp_path: Path) -> None:
    paths = files(tmp_path)
    moments = {Renewal(*paths).next_at for _ in range(50)}
    assert max(moments) - min(moments) > WEEK * 0.05


def test_certificate_and_key_are_replaced(tmp_path: Path) -> None:
    certificate, key, root = files(tmp_path, age=timedelta(days=5))
    before = key.read_bytes()
    renewal = Renewal(certificate, key, root)
    outcome = renewal.store(answer(renewal.request(AT)))
    assert outcome.until == f"{NOW + timedelta(days=7):%Y-%m-%d %H:%M:%S} UTC"
    assert key.read_bytes() != before
    assert load_certificate(certificate).public_key() == keys.read_key(key).public_key()
    assert renewal.wrote(str(certificate)) and renewal.wrote(str(key))
    assert not renewal.due(AT + WEEK * EARLIEST - 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.crt", "home.crt", "home.key"]
    certificate.write_text("somebody else's")
    assert not renewal.wrote(str(certificate))
    assert not renewal.wrote(str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("left", "pause"), [(WEEK, MAX_RETRY), (600.0, 60.0), (5.0, MIN_RETRY), (-5.0, MIN_RETRY)]
)
def test_a_refused_renewal_is_retried_sooner_near_the_end(
    tmp_path: Path, left: float, pause: float
) -> None:
    renewal = Renewal(*files(tmp_path))
    now = AT + WEEK - left
    renewal.request(now)
    assert renewal.store(Renewed(reason="not now")).refusal == "not now"
    assert not renewal.due(now + pause - 0.1)
    assert renewal.due(now + pause)


def test_a_clock_set_back_does_not_delay_renewal(tmp_path: Path) -> None:
    renewal = Renewal(*files(tmp_path))
    renewal.request(AT + 20 * WEEK)
    assert renewal.due(AT + WEEK * LATEST + 1)


def test_no_request_without_a_writable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewal = Renewal(*files(tmp_path))
    waiting = tmp_path / "home.key.next"
    waiting.mkdir()
    with pytest.raises(PkiError, match=r"home\.key\.next: cannot write"):
        renewal.request(AT + WEEK)
    assert not renewal.due(AT + WEEK + MIN_RETRY - 1), "not in each turn"
    assert renewal.due(AT + WEEK + MIN_RETRY)
    waiting.rmdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: path != tmp_path)
        with pytest.raises(PkiError, match=r"home\.crt: cannot be replaced"):
            renewal.request(AT + WEEK)
    renewal.request(AT)
    assert waiting.stat().st_mode & 0o777 == 0o600


def test_an_unrequested_certificate_changes_nothing(tmp_path: Path) -> None:
    certificate, key, root = files(tmp_path)
    renewal = Renewal(certificate, key, root)
    before = certificate.read_bytes()
    message = answer(Renewal(certificate, key, root).request(AT))
    assert renewal.store(message).refusal
    renewal.request(AT)
    with pytest.raises(PkiError, match="not for this agent and its new key"):
        renewal.store(message)
    assert certificate.read_bytes() == before


def by_another_authority(message: Renew) -> str:
    """Return a certificate of another authority, followed by the genuine root, which is public."""
    foreign = create_root("test", days=36500)
    issuer = Issuer(certificate=foreign.certificate, key=foreign.key)
    return chain_of(issuer.issue_agent("home", message.csr.encode(), timedelta(days=36499), NOW))


def with_the_true_root_behind(message: Renew) -> str:
    """Return a certificate of another authority with the genuine root behind it, which is
    public."""
    return by_another_authority(message) + ROOT.certificate_pem.decode()


def with_a_weak_authority_behind(message: Renew) -> str:
    """OpenSSL refuses to load the chain, so the agent could never start with it."""
    weak = ForeignCertificate.root("weak", key=rsa.generate_private_key(65537, 1024))
    return good(message) + weak.pem.decode()


def for_servers(message: Renew) -> str:
    return signed(message, usage=profile.SERVER)


def without_use(message: Renew) -> str:
    return signed(message, digital_signature=False)


def not_begun(message: Renew) -> str:
    return chain_of(
        ISSUER.issue_agent("home", message.csr.encode(), timedelta(days=1), NOW + timedelta(days=2))
    )


def ended(message: Renew) -> str:
    return chain_of(
        ISSUER.issue_agent(
            "home", message.csr.encode(), timedelta(minutes=1), NOW - timedelta(hours=1)
        )
    )


def of_another_agent(message: Renew) -> str:
    return answer(message, agent="thief").chain


def of_an_agent_that_signs(message: Renew) -> str:
    """Return a certificate issued by another agent, whose own certificate is no authority."""
    thief = keys.generate()
    own = ISSUER.issue_agent("thief", csr_of(thief), timedelta(days=1), NOW)
    certificate = x509.load_pem_x509_certificate(own.chain_pem)
    issuer = Issuer(certificate=certificate, key=thief)
    return chain_of(issuer.issue_agent("home", message.csr.encode(), timedelta(hours=1), NOW))


def of_version_8(message: Renew) -> str:
    return altered(good(message), bytes.fromhex("a003020102"), bytes.fromhex("a003020107"))


def with_a_key_of_an_unknown_kind(message: Renew) -> str:
    return altered(good(message), bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d027f"))


def broken(message: Renew) -> str:
    return "-----BEGIN CERTIFICATE-----"


def of_too_many(message: Renew) -> str:
    return good(message) * 40


REFUSED: dict[Callable[[Renew], str], str] = {
    by_another_authority: "not valid under this agent's ca_cert: ",
    with_the_true_root_behind: "not valid under this agent's ca_cert: ",
    with_a_weak_authority_behind: "that OpenSSL refuses: ca key too small",
    for_servers: "not valid under this agent's ca_cert: .*purpose",
    without_use: "not valid under this agent's ca_cert: .*purpose",
    not_begun: r"that begins on \d{4}-\d\d-\d\d \d\d:\d\d UTC; compare the clocks",
    ended: "has expired by this machine's clock; compare the clocks",
    of_another_agent: "not for this agent and its new key",
    of_an_agent_that_signs: "not valid under this agent's ca_cert: ",
    of_version_8: "not a certificate",
    with_a_key_of_an_unknown_kind: "not a certificate",
    broken: "not a certificate",
    of_too_many: "a chain has at most 4",
}


@pytest.mark.parametrize(("sent", "reason"), REFUSED.items())
def test_a_certificate_that_a_genuine_server_refuses_changes_nothing(
    tmp_path: Path, sent: Callable[[Renew], str], reason: str
) -> None:
    certificate, key, root = files(tmp_path)
    before = certificate.read_bytes(), key.read_bytes()
    renewal = Renewal(certificate, key, root)
    with pytest.raises(PkiError, match=reason) as found:
        renewal.store(Renewed(chain=sent(renewal.request(AT))))
    assert "\n" not in str(found.value)
    assert (certificate.read_bytes(), key.read_bytes()) == before
    assert not renewal.due(AT + MIN_RETRY - 1)
    assert renewal.due(AT + MAX_RETRY), "it asks again"
    assert renewal.store(Renewed(chain=good(renewal.request(AT)))).until


def test_a_certificate_slightly_in_the_future_is_accepted(tmp_path: Path) -> None:
    renewal = Renewal(*files(tmp_path))
    assert renewal.store(answer(renewal.request(AT), at=NOW + timedelta(hours=20))).until


def test_only_the_certificates_of_an_answer_are_written(tmp_path: Path) -> None:
    certificate, key, root = files(tmp_path)
    renewal = Renewal(certificate, key, root)
    chain = good(renewal.request(AT))
    secret = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    assert renewal.store(Renewed(chain=f"text \u00e9\n{chain}{secret}")).until
    assert certificate.read_text() == chain


def test_a_certificate_of_an_external_authority_is_accepted(tmp_path: Path) -> None:
    """Without a URI and without key usage: servers of that authority accept it."""
    certificate, key, root = files(tmp_path)
    renewal = Renewal(certificate, key, root)
    public = x509.load_pem_x509_csr(renewal.request(AT).csr.encode()).public_key()
    issued = (
        x509.CertificateBuilder(
            ROOT.certificate.subject, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "home")])
        )
        .public_key(public)
        .serial_number(7)
        .not_valid_before(NOW - BACKDATE)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(ROOT.key, hashes.SHA256())
    )
    assert renewal.store(Renewed(chain=issued.public_bytes(Encoding.PEM).decode())).until


def good(message: Renew) -> str:
    return answer(message).chain


def chain_of(issued: Issued) -> str:
    return issued.chain_pem.decode()


def csr_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    return csr.public_bytes(Encoding.PEM)


def signed(
    message: Renew, *, usage: ObjectIdentifier = profile.CLIENT, digital_signature: bool = True
) -> str:
    """Return a certificate of the genuine authority for "home", with another usage."""
    public = x509.load_pem_x509_csr(message.csr.encode()).public_key()
    builder = (
        x509.CertificateBuilder(ROOT.certificate.subject, x509.Name([]))
        .public_key(public)
        .serial_number(7)
        .not_valid_before(NOW - BACKDATE)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:0trust:agent:home")]),
            critical=True,
        )
        .add_extension(
            x509.KeyUsage(digital_signature, True, False, False, False, False, False, False, False),
            critical=True,
        )
    )
    return builder.sign(ROOT.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def altered(pem: str, before: bytes, after: bytes) -> str:
    """Return the certificate with some bytes changed, so that its signature is invalid."""
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    assert before in der
    body = base64.encodebytes(der.replace(before, after, 1)).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"
