"""Unix sockets to listen on: only their owner and root connect, and no running server loses one."""

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Final

MAX_PATH_BYTES: Final = 107 if sys.platform == "linux" else 103
"""`sun_path` of unix(7) without its final zero. A descriptor or a relative path would be another
way to a longer one, but Caddy and the commands need this path, too."""


def listen_unix(name: str, backlog: int) -> socket.socket:
    """Return a socket that listens at a path, mode 0600; remove one that a process has left there.

    Raises:
        OSError: the path is too long, or another process listens there, or it can't be used.
    """
    length = len(os.fsencode(name))
    if length > MAX_PATH_BYTES:
        raise OSError(
            errno.ENAMETOOLONG,
            f"the path has {length} bytes, and the system allows {MAX_PATH_BYTES}; write a shorter"
            " one, or a shorter state.dir",
        )
    path = Path(name)
    if path.is_socket():
        _check_abandoned(name)
        path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode holds from the first moment: a client that connects before a later chmod stays.
    mask = os.umask(0o177)
    try:
        made.bind(name)
        made.listen(backlog)
    except OSError:
        made.close()
        raise
    finally:
        os.umask(mask)
    return made


def _check_abandoned(name: str) -> None:
    """Raise OSError unless the process that listened at a socket has ended."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        # A full queue of connections must not make this wait.
        client.setblocking(False)
        try:
            client.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "another process listens there")
