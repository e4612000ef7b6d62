"""Tests of zerotrust.server.portal.provider_http; test_oidc.py has the answers of providers."""

import re
import ssl
from pathlib import Path

import pytest

from tests.support.authorities import ForeignCertificate
from tests.support.issuer import Issuer
from tests.support.ports import free_port
from zerotrust.errors import ProviderFailed
from zerotrust.server.portal.provider_http import ProviderHttp, is_acceptable

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://sso.example.com/token", True),
        ("https://sso.example.com:8443/token?x=1", True),
        ("http://127.0.0.1:8080/token", True),
        ("http://localhost/token", True),
        ("http://sso.localhost/token", True),
        ("http://[::1]/token", True),
        ("http://sso.example.com/token", False),
        ("http://127.0.0.1.example.com/token", False),
        ("http://localhost.example.com/token", False),
        ("https://127.0.0.1@evil.example/token", False),
        ("https:///token", False),
        ("https://[/token", False),
        ("https://sso.example.com/token#x", False),
        ("ftp://sso.example.com/", False),
        ("//sso.example.com/", False),
        ("https://sso.example.com/é", False),
        ("https://sso.example.com/" + "x" * 2048, False),
        ("", False),
        (None, False),
        (["https://sso.example.com/token"], False),
    ],
)
def test_https_or_this_machine(url: object, good: bool) -> None:
    assert is_acceptable(url) is good


async def test_a_provider_that_is_not_there_is_named() -> None:
    origin = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ProviderFailed, match=f"^{re.escape(origin)}: .*fail"):
        await ProviderHttp().document(f"{origin}/.well-known/openid-configuration")


async def test_the_authorities_of_the_system_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ForeignCertificate.root()
    certificate, key = root.issue("localhost", dns=("localhost",)).store(tmp_path, "localhost")
    trusted, _ = root.store(tmp_path, "root")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with Issuer(tls=context) as issuer:
        issuer.add_key("a")
        with pytest.raises(ProviderFailed, match="CERTIFICATE_VERIFY_FAILED"):
            await ProviderHttp().document(issuer.url)
        assert issuer.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        http = ProviderHttp()
        assert await http.document(issuer.url) == issuer.document()
        assert await http.document(issuer.url) == issuer.document()
