"""`ssh -R` with an sshd and a client of our own, as a tunnel to compare with.

Keys are temporary, ports are unprivileged, and the user's configuration is not read.
"""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from benchmarks.lab.loopback import ADDRESS, free_port
from benchmarks.lab.plan import Part, Plan

_SSHD_CONFIG = """\
ListenAddress {address}
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding remote
LogLevel ERROR
"""


def ssh(folder: Path, programs: Mapping[str, str], backends: Mapping[str, int]) -> Plan:
    """Forward local ports through ssh."""
    host_key, port = _make_key(folder / "host"), free_port()
    _make_key(folder / "user")
    (folder / "known_hosts").write_text(f"[{ADDRESS}]:{port} {host_key}\n")
    config = folder / "sshd_config"
    config.write_text(_SSHD_CONFIG.format(address=ADDRESS, port=port, folder=folder))
    hosts = {host: free_port() for host in backends}
    options = [
        f"-oUserKnownHostsFile={folder}/known_hosts",
        "-oBatchMode=yes",
        "-oExitOnForwardFailure=yes",
        *(f"-R{ADDRESS}:{hosts[host]}:{ADDRESS}:{to}" for host, to in backends.items()),
    ]
    user = pwd.getpwuid(os.geteuid()).pw_name
    key, target = str(folder / "user"), f"{user}@{ADDRESS}"
    client = (programs["ssh"], "-F", "none", "-N", "-T", "-i", key, "-p", str(port))
    return Plan(
        (
            Part("server", (programs["sshd"], "-D", "-e", "-f", str(config)), (port,)),
            Part("client", (*client, *options, target), tuple(hosts.values())),
        ),
        hosts,
    )


def _make_key(path: Path) -> str:
    """Write a new key pair; return the public key."""
    key = ed25519.Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    path.with_suffix(".pub").write_bytes(public + b"\n")
    return public.decode()
