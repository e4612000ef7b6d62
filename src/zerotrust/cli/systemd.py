"""systemd services for the agent and the server, each with the rights that it needs and no others.

The user of a service exists only while it runs. Its files are below /var/lib; the rest of the
machine is read-only or hidden (systemd.exec(5)). `systemd-analyze security` rates the result.
systemd restarts a service whenever it ends, and ends it if it takes more memory than its share.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zerotrust.errors import SetupError

UNITS: Final = Path("/etc/systemd/system")
STATE: Final = Path("/var/lib")
RUNNING: Final = Path("/run/systemd/system")
"""Folder that exists where systemd runs (sd_booted(3))."""
_HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))

_UNIT: Final = """\
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={program} -m zerotrust {command} --config {config}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=2
{lifetime}
DynamicUser=yes
StateDirectory={name}
StateDirectoryMode=0700
UMask=0077

{limits}
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProcSubset={proc}
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, kw_only=True)
class SystemdService:
    """A service of systemd that runs a command of 0trust.

    Attributes:
        command: the words after `0trust`, without `--config`.
        file: name of the configuration file in the service's folder.
        memory: share of the machine's memory that it may take.
        tasks: number of its processes and threads.
        capabilities: Linux capabilities, separated by spaces.
        proc: part of /proc that it sees, `pid` or `all`.
        lifetime: further lines about how it is stopped.
    """

    name: str
    description: str
    command: str
    file: str
    memory: str
    tasks: int
    capabilities: str = ""
    proc: str = "pid"
    lifetime: str = ""

    @property
    def folder(self) -> Path:
        """The only folder that the service can write."""
        return STATE / self.name

    @property
    def config(self) -> Path:
        """The configuration file of the service."""
        return self.folder / self.file

    @property
    def path(self) -> Path:
        """The file of the unit."""
        return UNITS / f"{self.name}.service"

    def unit(self, program: Path) -> str:
        """Return the text of the unit if this Python runs the service.

        Raises:
            SetupError: the path cannot be written in a unit.
        """
        text = str(program)
        if any(character.isspace() or character in "%$\"'\\;" for character in text):
            raise SetupError(
                f"{text}: not possible in a systemd unit; install 0trust under a path of plain"
                " characters"
            )
        return _UNIT.format(
            name=self.name,
            description=self.description,
            program=text,
            command=self.command,
            config=self.config,
            lifetime=self.lifetime,
            limits=f"MemoryMax={self.memory}\nTasksMax={self.tasks}\n",
            capabilities=self.capabilities,
            proc=self.proc,
        )

    def check(self) -> str:
        """Return the text of the unit, if the service can be installed on this machine.

        Raises:
            SetupError: no systemd, not root, or 0trust is installed where services cannot see it.
        """
        if not RUNNING.is_dir():
            raise SetupError(
                "systemd does not run on this machine; --print-unit prints the unit without it"
            )
        if os.geteuid() != 0:
            raise SetupError("only root can install a systemd service; use sudo")
        program = Path(sys.executable)
        for path in (program, program.resolve()):
            if any(path.is_relative_to(home) for home in _HOMES):
                raise SetupError(
                    f"{path}: services cannot see home directories; install 0trust elsewhere, as in"
                    " /opt"
                )
        return self.unit(program)

    def install(self, unit: str) -> None:
        """Write the unit, and start the service now and at each boot.

        Raises:
            SetupError: systemd refuses; the message has its reason.
        """
        try:
            self.path.write_text(unit)
            self.path.chmod(0o644)
        except OSError as error:
            raise SetupError(f"{self.path}: cannot write: {error.strerror}") from error
        for words in (["daemon-reload"], ["enable", self.name], ["restart", self.name]):
            _systemctl(words)


AGENT: Final = SystemdService(
    name="0trust-agent",
    description="0Trust agent",
    command="agent run",
    file="agent.yaml",
    memory="50%",
    tasks=64,
)

SERVER: Final = SystemdService(
    name="0trust-server",
    description="0Trust server",
    command="server run",
    file="server.yaml",
    memory="80%",
    tasks=1024,
    # Caddy, a child of the server, listens on ports 80 and 443. Go reads the limit of the listen
    # backlog from /proc/sys; without it, Go's backlog is 128.
    capabilities="CAP_NET_BIND_SERVICE",
    proc="all",
    # Only the server gets SIGTERM: it drains for `hot_reload.drain_timeout` (30 s by default) and
    # then ends Caddy. After 120 s systemd kills both.
    lifetime="KillMode=mixed\nTimeoutStopSec=120\n",
)


def _systemctl(words: list[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603
            ["/usr/bin/env", "systemctl", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"systemctl {' '.join(words)} does not work: {error}") from error
    if done.returncode:
        raise SetupError(
            f"systemctl {' '.join(words)}: {' '.join(done.stderr.split()) or done.returncode}"
        )
