"""Modules that an import loads, in a process of its own."""

import subprocess
import sys


def imported_by(*modules: str) -> set[str]:
    """Return the names of all modules that a process has after it has imported these."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())
