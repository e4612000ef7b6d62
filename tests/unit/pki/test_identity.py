"""Tests of zerotrust.pki.identity."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.support.authorities import ForeignCertificate, now
from zerotrust.errors import PkiError
from zerotrust.pki import keys
from zerotrust.pki.identity import agent_id_of, check_id, common_name, identity

ROOT = ForeignCertificate.root()


@pytest.mark.parametrize(
    ("made", "agent_id"),
    [
        (ROOT.issue("home"), "home"),
        (ROOT.issue("home", dns=("home.example.com",)), "home"),
        (ROOT.issue("home", uris=("spiffe://example.com/x",)), "home"),
        (ROOT.issue("somebody else", uris=("urn:0trust:agent:home",)), "home"),
        (ROOT.issue(uris=("spiffe://example.com/x", "urn:0trust:agent:home")), "home"),
        (ROOT.issue("Home-1_2.lan"), "Home-1_2.lan"),
    ],
)
def test_the_uri_first_then_the_common_name(made: ForeignCertificate, agent_id: str) -> None:
    assert agent_id_of(made.certificate) == agent_id
    found = identity(made.der)
    assert (found.agent_id, found.not_after) == (agent_id, made.certificate.not_valid_after_utc)
    assert found.serial == f"{made.certificate.serial_number:x}"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (ROOT.issue(), "names no agent"),
        (ROOT.issue(dns=("home",)), "names no agent"),
        (ROOT.issue("home", "away"), "names more than one agent"),
        (
            ROOT.issue("home", uris=("urn:0trust:agent:a", "urn:0trust:agent:b")),
            "names more than one agent",
        ),
        # An id that is none is not mended with the common name.
        (ROOT.issue("home", uris=("urn:0trust:agent:",)), "cannot be used as a name"),
        (ROOT.issue("home", uris=("urn:0trust:agent:a/b",)), "cannot be used as a name"),
        (ROOT.issue("two words"), "cannot be used as a name"),
        (ROOT.issue("line\nbreak"), "cannot be used as a name"),
        (ROOT.issue("../../etc"), "cannot be used as a name"),
        (ForeignCertificate.root("home"), "an authority's, not an agent's"),
        (ROOT.issue("home", ca=True), "an authority's, not an agent's"),
    ],
)
def test_what_names_nobody(made: ForeignCertificate, said: str) -> None:
    with pytest.raises(PkiError, match=said):
        identity(made.der)


def of_version(number: int) -> bytes:
    der = ROOT.issue("home").der
    version = bytes.fromhex("a003020102")
    return der.replace(version, version[:-1] + bytes([number]), 1)


@pytest.mark.parametrize(
    "der",
    [b"", b"nonsense", ROOT.issue("home").der[:-1], of_version(7)],
    ids=[
        "nothing",
        "nonsense",
        "cut short",
        "version 8",
    ],  # the bytes are other ones in each process
)
def test_what_is_no_certificate(der: bytes) -> None:
    with pytest.raises(PkiError, match="cannot be read"):
        identity(der)


def test_extensions_that_cannot_be_read() -> None:
    key = keys.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "home")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now())
        .not_valid_after(now())
        .add_extension(
            x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x05junk"),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(PkiError, match="cannot be read"):
        identity(made.public_bytes(serialization.Encoding.DER))


def test_ids() -> None:
    assert check_id("a" * 64) == "a" * 64
    for wrong in ("", "a" * 65, "-a", ".a", "a\n", "a\x00", "ä"):
        with pytest.raises(PkiError):
            check_id(wrong)


def test_common_names_are_for_people() -> None:
    assert common_name(ROOT.issue().certificate) == ""
    assert common_name(ROOT.issue("a", "b").certificate) == "a"
