"""The agent, put together: dial, serve, dial again; and read the file again when it changes."""

import asyncio
import random
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from zerotrust import __version__
from zerotrust.agent.dispatch import Dispatch
from zerotrust.agent.services import LiveService, Services
from zerotrust.config.diff import Changes
from zerotrust.config.load import Loaded
from zerotrust.config.reload import Read, Reloader
from zerotrust.errors import PkiError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import split_address
from zerotrust.net.channel import describe
from zerotrust.net.flush import Flusher
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import tunnel_client
from zerotrust.pki.files import load_certificate
from zerotrust.pki.identity import agent_id_of
from zerotrust.pki.secrets import derive
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.session import Options

_log = structlog.get_logger("agent")

CONNECT_TIMEOUT: Final = 10.0
BACK_OFF_FIRST: Final = 0.2
BACK_OFF_MOST: Final = 15.0
SUPERSEDED_PAUSE: Final = 60.0
SWEEP: Final = 1.0
GRACE: Final = 2.0


async def serve(loaded: Loaded[AgentConfig], read: Read[AgentConfig]) -> None:
    """Run the agent until it is cancelled.

    Args:
        read: reads the configuration again, when it changes or on SIGHUP; what is different is then applied.

    Raises:
        SetupError: a certificate can't be used, or it is not of the agent that the file names.
    """
    tasks = Tasks()
    agent = Agent(loaded.config, tasks)
    tasks.spawn(Reloader(loaded, read=read, apply=agent.apply, tasks=tasks).run(), "reload")
    try:
        await agent.run()
    finally:
        await agent.close()
        await tasks.close()


class Agent:
    """Keeps one session with the server."""

    def __init__(self, config: AgentConfig, tasks: Tasks) -> None:
        self._loop = asyncio.get_running_loop()
        self._flusher = Flusher(self._loop)
        self._options = Options(software=f"0trust/{__version__}")
        _check_identity(config)
        self._services = Services(flusher=self._flusher, tasks=tasks)
        self._replace_services(config)
        self._server = config.server
        self._tls = _context(config)
        self._dispatch: Dispatch | None = None
        tasks.spawn(self._sweep(), "sweep")

    async def run(self) -> None:
        """Dial the server, again and again."""
        delay = BACK_OFF_FIRST
        while True:
            ended = await self._session()
            if ended is Code.SUPERSEDED:
                _log.error(
                    "another process uses this agent's certificate: stop it, or give each agent its own",
                    retry_seconds=SUPERSEDED_PAUSE,
                )
                # Two processes that both come back at once would take the host names from each other for ever.
                await asyncio.sleep(SUPERSEDED_PAUSE)
            if ended is not None:
                delay = BACK_OFF_FIRST
            # Full jitter: a thousand agents must not come back in step after a restart of their server.
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311
            delay = min(delay * 2, BACK_OFF_MOST)

    def apply(self, config: AgentConfig, changes: Changes) -> list[str]:
        """Go on with this configuration; what of it waits, and for what.

        Raises:
            SetupError: a certificate or the log can't be used; the services are as before.
        """
        _check_identity(config)
        tls = _context(config)
        if "logging" in changes.sections:
            logs.configure(config.logging)
        changed, gone = self._replace_services(config)
        self._server, self._tls = config.server, tls
        if self._dispatch is not None and self._dispatch.was_established:
            for live in changed:
                self._dispatch.announce(live)
            for service_id in gone:
                self._dispatch.link.session.unregister(service_id)
        waiting = [key for key in changes.keys if key.startswith("server")] + list(changes.files)
        return [f"{key}: for the next connection" for key in waiting]

    def _replace_services(self, config: AgentConfig) -> tuple[list[LiveService], list[str]]:
        needed = any(service.load_balancing.session_affinity for service in config.services)
        return self._services.replace(
            config.services,
            config.global_middleware,
            health=config.health_checks.global_settings,
            secret=derive(Path(config.server.key), "session affinity") if needed else b"",
        )

    async def close(self) -> None:
        """Tell the server, and end."""
        dispatch = self._dispatch
        if dispatch is not None:
            dispatch.link.close_session(Code.GOING_AWAY, "the agent is shutting down")
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(dispatch.link.closed), GRACE)
        self._services.close()

    async def _session(self) -> Code | None:
        """One connection from dial to end; why the session ended, None where it was never established."""
        host, port = split_address(self._server.address, default_port=8443)
        dispatch = Dispatch(self._services, flusher=self._flusher, options=self._options)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._loop.create_connection(
                    dispatch.link.as_protocol,
                    host,
                    port,
                    ssl=self._tls,
                    server_hostname=self._server.server_name or host,
                )
        except (OSError, TimeoutError) as error:
            _log.warning("cannot connect", server=f"{host}:{port}", reason=describe(error))
            return None
        self._dispatch = dispatch
        await dispatch.link.closed
        self._dispatch = None
        code, reason = dispatch.ended or (Code.INTERNAL, "")
        if not dispatch.was_established:
            # In TLS 1.3 a client hears that its certificate is refused after its own handshake, or not at all.
            _log.warning(
                "refused: the server may not accept this agent's certificate; its log says why",
                server=f"{host}:{port}",
                code=code.name,
                reason=reason,
            )
            return None
        _log.warning("disconnected", server=f"{host}:{port}", code=code.name, reason=reason)
        return code

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            now = self._loop.time()
            self._services.sweep(now)
            if self._dispatch is not None:
                self._dispatch.sweep(now)


def _context(config: AgentConfig) -> ssl.SSLContext:
    server = config.server
    return tunnel_client(certificate=server.cert, key=server.key, authority=server.ca_cert)


def _check_identity(config: AgentConfig) -> None:
    """The server goes by the certificate; a file that says otherwise is a mistake to be told now.

    Raises:
        PkiError: the certificate can't be read, or names another agent.
    """
    certificate = load_certificate(Path(config.server.cert))
    try:
        named = agent_id_of(certificate)
    except PkiError as error:
        raise PkiError(f"{config.server.cert}: {error}") from error
    declared = config.declared_id
    if declared is not None and declared != named:
        raise PkiError(
            f'{config.server.cert} is the certificate of "{named}", but the configuration says agent.id "{declared}"; '
            f"make them the same (0trust ca issue agent {declared})"
        )
