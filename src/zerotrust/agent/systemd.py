"""The agent as a service of systemd: a unit that may do what an agent does, and nothing else.

Its user exists only while it runs, its files are below /var/lib, and all else of the machine is read-only or not to be
seen (systemd.exec(5)). `systemd-analyze security` says what that is worth. systemd restarts it however often it ends,
and ends it where it takes more than half of the machine's memory.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from zerotrust.errors import SetupError

NAME: Final = "0trust-agent"
UNIT: Final = Path(f"/etc/systemd/system/{NAME}.service")
FOLDER: Final = Path("/var/lib") / NAME
_RUNNING: Final = Path("/run/systemd/system")
_HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))

_TEXT: Final = f"""\
[Unit]
Description=0Trust agent
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={{program}} -m zerotrust agent run --config {FOLDER}/agent.yaml
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=2

DynamicUser=yes
StateDirectory={NAME}
StateDirectoryMode=0700
UMask=0077

MemoryMax=50%
TasksMax=64

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProcSubset=pid
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


def unit(program: Path) -> str:
    """The unit of an agent that this Python runs.

    Raises:
        SetupError: the path cannot stand in a unit.
    """
    text = str(program)
    if any(character.isspace() or character in "%$\"'\\;" for character in text):
        raise SetupError(f"{text}: cannot stand in a systemd unit; install 0trust under a path of plain characters")
    return _TEXT.format(program=text)


def check() -> str:
    """The unit's text, where it can be installed here; to be asked before anything is done that can't be undone.

    Raises:
        SetupError: no systemd, not root, or 0trust is installed where services do not see it.
    """
    if not _RUNNING.is_dir():
        raise SetupError("systemd does not run here; join without --install (--print-unit shows what it would do)")
    if os.geteuid() != 0:
        raise SetupError("--install writes a systemd unit: run it as root, or join without it")
    program = Path(sys.executable)
    for path in (program, program.resolve()):
        if any(path.is_relative_to(home) for home in _HOMES):
            raise SetupError(
                f"{path}: a service cannot see what is in somebody's home; install 0trust elsewhere, such as in /opt"
            )
    return unit(program)


def install(text: str) -> None:
    """Write the unit, and start it now and at each boot.

    Raises:
        SetupError: systemd refuses; its reason is told.
    """
    try:
        UNIT.write_text(text)
        UNIT.chmod(0o644)
    except OSError as error:
        raise SetupError(f"{UNIT}: cannot write: {error.strerror}") from error
    for words in (["daemon-reload"], ["enable", NAME], ["restart", NAME]):
        _systemctl(words)


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
        raise SetupError(f"systemctl {' '.join(words)}: {' '.join(done.stderr.split()) or done.returncode}")
