"""WSGI applications as backends of tests: a WebDAV server and a Git server.

Arguments: `--port`, `--address`, `--folder`, and `dav` or `git`.
"""

import argparse
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from cheroot.wsgi import Server
from wsgidav.wsgidav_app import WsgiDAVApp

PIECE = 64 * 1024


def dav(folder: Path) -> Any:
    """Return a WebDAV server for one folder; everyone may write."""
    return WsgiDAVApp(
        {
            "provider_mapping": {"/": str(folder)},
            "simple_dc": {"user_mapping": {"*": True}},
            "lock_storage": True,
            "property_manager": True,
            "verbose": 1,
            "logging": {"enable": False},
        }
    )


class Git:
    """Git's smart HTTP protocol, by `git http-backend`; everyone may push."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        variables = {name: value for name, value in environ.items() if isinstance(value, str)}
        process = subprocess.Popen(
            ["git", "http-backend"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                **variables,
                "GIT_PROJECT_ROOT": str(self._folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REMOTE_USER": "someone",
            },
        )
        assert process.stdin is not None
        assert process.stdout is not None
        while piece := environ["wsgi.input"].read(PIECE):
            process.stdin.write(piece)
        process.stdin.close()
        status, fields = "200 OK", []
        while line := process.stdout.readline().decode().strip():
            name, _, value = line.partition(": ")
            if name == "Status":
                status = value
            else:
                fields.append((name, value))
        start_response(status, fields)
        return self._pieces(process)

    def _pieces(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        assert process.stdout is not None
        while piece := process.stdout.read(PIECE):
            yield piece
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("application", choices=("dav", "git"))
    options = parser.parse_args()
    application = dav(options.folder) if options.application == "dav" else Git(options.folder)
    server = Server((options.address, options.port), application, numthreads=16)
    server.prepare()
    print(f"listens on {options.address}:{options.port}", flush=True)
    server.serve()


if __name__ == "__main__":
    main()
