"""Queues of the sockets of this machine: they show which hop has stopped a request."""

import subprocess


def sockets_with_queued_bytes() -> str:
    """Return a table of the sockets whose queues are not empty, with their processes (Linux only).

    A process that has stopped reading has bytes in Recv-Q. Where all queues are empty, a process
    holds the request itself.
    """
    try:
        table = subprocess.run(
            ["ss", "-tunxpO"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no table of sockets: {error}"
    title, *rows = table.splitlines() or [""]
    return "\n".join([title, *(row for row in rows if row.split()[2:4] != ["0", "0"])])
