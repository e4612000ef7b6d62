"""The server's agent listener in the test's own loop, with a single-token enrollment."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography import x509

from tests.support.ports import free_port
from zerotrust.enrollment.join import IssuedCertificate
from zerotrust.errors import CertificateRefused, TokenUnknown, TokenUsed
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import tunnel_server
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki import ca_directory, profile
from zerotrust.pki.chain_verification import is_ours
from zerotrust.pki.identity import agent_id_of
from zerotrust.pki.issuer import Issued, ServerNames
from zerotrust.pki.join_token import JoinToken, fingerprint
from zerotrust.pki.proof_of_possession import proves
from zerotrust.server.agents.listener import AgentListener
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_registrar import ServiceRegistrar
from zerotrust.server.agents.session_acceptor import SessionAcceptor
from zerotrust.server.identity.authorization import Authorization
from zerotrust.server.identity.enrollment_api import EnrollmentEndpoint

TOKEN = "a-token-that-nobody-guesses"


class SingleTokenEnrollment:
    """Enrollment that accepts one token, once (server.identity.enrollment_api.Enrollment)."""

    def __init__(self, folder: Path) -> None:
        self.issuer = ca_directory.load_authority(folder)
        self.root = (folder / "ca.crt").read_bytes()
        self.hosts = ["pihole.example.com", "*.lab.example.com"]
        self.agent_id = "home"
        self.asked: list[tuple[str, str]] = []
        self.used = False
        self.failure: Exception | None = None

    def root_pem(self) -> bytes:
        return self.root

    async def join(self, token: str, csr_pem: bytes, peer: str) -> IssuedCertificate:
        self.asked.append((token, peer))
        if self.failure is not None:
            raise self.failure
        if token != TOKEN:
            raise TokenUnknown("the server knows no such token")
        if self.used:
            raise TokenUsed("the token has been used already")
        life, now = datetime.timedelta(days=7), datetime.datetime.now(datetime.UTC)
        issued = self.issuer.issue_agent(self.agent_id, csr_pem, life, now)
        self.used = True
        return self._issued(issued)

    async def renew_expired(
        self, chain_pem: bytes, csr_pem: bytes, proof: bytes, peer: str
    ) -> IssuedCertificate:
        """Issue a certificate to the holder of an expired one of our authority and its key."""
        chain = x509.load_pem_x509_certificates(chain_pem)
        self.asked.append((agent_id_of(chain[0]), peer))
        if self.failure is not None:
            raise self.failure
        root = x509.load_pem_x509_certificate(self.root)
        if not is_ours(chain, self.issuer, root) or not proves(
            chain[0].public_key(), csr_pem, proof
        ):
            raise CertificateRefused("the key of the certificate did not sign this")
        life, now = datetime.timedelta(days=7), datetime.datetime.now(datetime.UTC)
        issued = self.issuer.issue_agent(self.agent_id, csr_pem, life, now)
        return self._issued(issued)

    def _issued(self, issued: Issued) -> IssuedCertificate:
        return IssuedCertificate(
            agent_id=self.agent_id,
            chain_pem=issued.chain_pem,
            serial=issued.serial,
            not_after=issued.not_after,
            patterns=self.hosts,
        )


class AgentListenerFixture:
    """An agent listener with an authority, a registry and an enrollment endpoint."""

    def __init__(
        self,
        folder: Path,
        *,
        enrollment: bool = True,
        names: ServerNames | None = None,
        limited: bool = False,
    ) -> None:
        self.folder = folder
        permitted = (
            profile.alternative_names(dns=["localhost"], ip=["127.0.0.1"]) if limited else []
        )
        ca_directory.create_authority(folder, permitted=permitted)
        names = names or ServerNames(ip=["127.0.0.1"])
        made = ca_directory.issue_server(folder, "localhost", names)
        self.port = free_port()
        self._one_token = SingleTokenEnrollment(folder) if enrollment else None
        self.registry = Registry()
        self.tasks = Tasks()
        self._server = made
        authorization, coalescer = (
            Authorization(any_host=True),
            WriteCoalescer(asyncio.get_running_loop()),
        )
        registrar = ServiceRegistrar(self.registry, authorization, secret=b"secret")
        self.enrollment = EnrollmentEndpoint(self._one_token, coalescer=coalescer, tasks=self.tasks)
        self.agent_listener = AgentListener(
            self.context(),
            registry=self.registry,
            acceptor=SessionAcceptor(
                self.registry, registrar, authorization, coalescer=coalescer, tasks=self.tasks
            ),
            enrollment=self.enrollment,
            tasks=self.tasks,
        )

    def context(self) -> ssl.SSLContext:
        """Return the server's TLS context, from its present files."""
        return tunnel_server(
            certificate=str(self._server.certificate),
            key=str(self._server.key),
            authority=str(self.folder / "ca.crt"),
            enrollment=self._one_token is not None,
        )

    @property
    def one_token(self) -> SingleTokenEnrollment:
        assert self._one_token is not None
        return self._one_token

    @property
    def line(self) -> JoinToken:
        root = x509.load_pem_x509_certificate((self.folder / "ca.crt").read_bytes())
        return JoinToken(
            server=f"127.0.0.1:{self.port}", secret=TOKEN, fingerprint=fingerprint(root)
        )

    def client(self, *alpn: str, credentials: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Return a client's TLS context that trusts this server, with or without a certificate."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if credentials is not None:
            context.load_cert_chain(*credentials)
        return context

    async def says(self, context: ssl.SSLContext, data: bytes = b"") -> bytes:
        """Send `data`; return the answer until the server closes, b"" if it resets instead."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        answer = b""
        try:
            writer.write(data)
            async with asyncio.timeout(10):
                while piece := await reader.read(65536):
                    answer += piece
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()
        return answer


@asynccontextmanager
async def running_listener(
    folder: Path,
    *,
    enrollment: bool = True,
    names: ServerNames | None = None,
    limited: bool = False,
) -> AsyncIterator[AgentListenerFixture]:
    """Run the listener; `limited` restricts its authority to servers of these names."""
    listener = AgentListenerFixture(folder, enrollment=enrollment, names=names, limited=limited)
    listening = listener.agent_listener.listen(f"127.0.0.1:{listener.port}")
    try:
        yield listener
    finally:
        await listening.close()
        await listener.agent_listener.close()
        await listener.tasks.close()
