"""nginx as the backend of GET and downloads, if installed: cached files, no access log."""

import os
import pwd
import shutil
from pathlib import Path
from typing import Final

BULK_SIZES: Final = (1 << 30, 128 << 20, 64 << 20)
SMALL_BYTES: Final = 1024

_CONFIG: Final = """\
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    open_file_cache max=16;
    default_type application/octet-stream;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        root {folder}/www;
    }}
}}
"""


def locate() -> Path | None:
    """Return the path of nginx, also outside a user's search path; None if not installed."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def prepare(folder: Path, port: int, *, descriptors: int) -> Path:
    """Write the configuration and the files: 1 KiB, and large sparse files."""
    files = folder / "www"
    (files / "bulk").mkdir(parents=True)
    (files / "1k").write_bytes(b"x" * SMALL_BYTES)
    for size in BULK_SIZES:
        with (files / "bulk" / str(size)).open("wb") as file:
            file.truncate(size)
    # Workers of an nginx started by root would run as a user who may not enter this folder.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    text = _CONFIG.format(
        user=user,
        folder=folder,
        port=port,
        descriptors=descriptors,
        connections=max(64, descriptors - 64),
    )
    config.write_text(text)
    return config
