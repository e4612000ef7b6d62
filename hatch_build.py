"""Compiles the data path when a wheel is built: the modules that each request and each chunk goes
through.

mypyc translates them to C as they are: they are typed throughout, and stay the one source. Where
there is no C compiler the wheel is built without: everything works, at about a third of the speed
(docs/performance.md). An editable install runs the sources.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = (
    "tunnel/*.py",
    "http/*.py",
    "balancing/*.py",
    "routing/*.py",
    "access/conditions.py",
    "access/cookies.py",
    "access/gate.py",
    "access/gate_request.py",
    "access/gate_table.py",
    "access/identity_headers.py",
    "access/refusal.py",
    "access/secret_format.py",
    "access/shown_credentials.py",
    "access/subject.py",
    "access/token_fields.py",
    "middleware/answer_response.py",
    "net/channel.py",
    "net/write_coalescer.py",
    "net/http_client.py",
    "net/http_server.py",
    "net/tunnel.py",
    "net/websocket_connection.py",
    "net/websocket_transport.py",
    "telemetry/request_record.py",
    "server/ops/load_sampler.py",
    "server/access/backend_identity.py",
    "server/access/credential_index.py",
    "server/access/gatekeeper.py",
    "server/proxy/error_pages.py",
    "server/proxy/gate_check.py",
    "server/proxy/identity_fields.py",
    "server/proxy/ingress.py",
    "server/proxy/load_shedding.py",
    "server/proxy/proxy_trust.py",
    "server/proxy/refusal_log.py",
    "server/proxy/relay.py",
    "server/proxy/request_context.py",
    "server/proxy/websocket_relay.py",
    "agent/request_rewrite.py",
    "agent/session.py",
    "agent/exchange.py",
    "agent/upstreams.py",
)
INTERPRETED = {
    "__init__.py",
    "messages.py",  # pydantic makes its classes at run time
    "handshake.py",
}


class DataPath(BuildHookInterface[Any]):
    """The hook that hatchling calls for each wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the compiled modules to the wheel.

        ZEROTRUST_COMPILE=0 leaves them out; =1 makes a missing compiler an error instead of a
        warning.
        """
        wanted = os.environ.get("ZEROTRUST_COMPILE", "")
        if version == "editable" or wanted == "0":
            return
        source = Path(self.root) / "src"
        modules = data_path(source / "zerotrust")
        self._folder = Path(tempfile.mkdtemp(prefix="0trust-build-"))
        try:
            libraries = compile_modules(source, modules, self._folder)
        except (Exception, SystemExit) as error:  # mypyc reports errors of types by sys.exit
            if wanted == "1":
                raise
            self.app.display_warning(f"the data path is not compiled, which costs speed: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update(
            {str(path): str(path.relative_to(self._folder)) for path in libraries}
        )

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built."""
        if hasattr(self, "_folder"):
            shutil.rmtree(self._folder, ignore_errors=True)


def data_path(package: Path) -> list[Path]:
    """Return the modules of the package that are compiled.

    Raises:
        FileNotFoundError: a pattern has no match. A module that was moved would run interpreted, at
            a third of its speed, and nobody would notice.
    """
    found: set[Path] = set()
    for pattern in COMPILED:
        matches = set(package.glob(pattern))
        if not matches:
            raise FileNotFoundError(
                f"hatch_build.py: COMPILED names {pattern}, but {package} has no such file"
            )
        found |= matches
    return sorted(path for path in found if path.name not in INTERPRETED)


def interpreted_modules(package: Path) -> list[Path]:
    """Return the modules of an installed package that should be compiled and have no shared
    object beside them."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return [path for path in data_path(package) if not path.with_name(path.stem + suffix).is_file()]


def compile_modules(source: Path, modules: list[Path], folder: Path) -> list[Path]:
    """Compile modules below `source`; return the libraries, in `folder` by their places in the
    package."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    names = [str(path.relative_to(source)) for path in modules]
    before = Path.cwd()
    os.chdir(source)
    try:
        extensions = mypycify(
            [
                "--ignore-missing-imports",
                "--follow-imports=silent",  # pip builds without the dependencies: types are missing
                "--config-file=",
                f"--cache-dir={folder / 'mypy'}",
                *names,
            ],
            group_name="zerotrust",
            target_dir=str(folder / "c"),
            opt_level="2",
            debug_level="0",
        )
        command = build_ext(Distribution({"ext_modules": extensions}))
        command.build_lib, command.build_temp = str(folder), str(folder / "o")
        command.ensure_finalized()
        command.run()
        return [Path(name) for name in command.get_outputs()]
    finally:
        os.chdir(before)


if __name__ == "__main__":
    missing = interpreted_modules(Path(sys.argv[1]))
    sys.exit(f"not compiled: {', '.join(map(str, missing))}" if missing else 0)
