"""A program that stands for Caddy: the commands and the admin API that the server uses.

`FAKE_CADDY` in the environment selects what it does:

* `run` (also if it is not set): serves the admin API
* `old`: the same, as version 2.6.2
* `refuse`: serves the admin API, and refuses each change
* `stubborn`: serves the admin API, and ignores SIGTERM
* `die`: ends at the start, with a reason in its log
* `die silently`: ends at the start; only `validate` prints the reason
* `hang`: serves nothing
"""

import sys
from pathlib import Path

_PROGRAM = r"""
import json, os, re, signal, socket, sys

mode, command = os.environ.get("FAKE_CADDY", "run"), sys.argv[1]
if command == "version":
    print("v2.6.2" if mode == "old" else "v2.11.0 h1:x")
    sys.exit()
config = sys.stdin.buffer.read()
if command == "validate":
    sys.exit("Error: found by validate")
print(json.dumps({"level": "info", "msg": "starting"}), "", "x" * (2 << 20), sep="\n", file=sys.stderr)
if mode == "die":
    print(json.dumps({"level": "error", "msg": "loading", "error": "no"}), file=sys.stderr)
if mode.startswith("die"):
    sys.exit(3)
while mode == "hang":
    signal.pause()
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.socket(socket.AF_UNIX)
listener.bind(re.fullmatch(r"unix/(.*)\|0600", os.environ["CADDY_ADMIN"])[1])
listener.listen()
while True:
    connection, _ = listener.accept()
    with connection, connection.makefile("rwb") as stream:
        method, length = stream.readline().split()[0], 0
        while (line := stream.readline()).strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split()[1])
        body, status, answer = stream.read(length), 200, config
        if method == b"POST":
            status, answer = (400, b'{"error":"not this"}') if mode == "refuse" else (200, b"")
            config = config if mode == "refuse" else body
        stream.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(answer), answer))
"""


def install(folder: Path) -> Path:
    """Write the program to a folder; return its path."""
    path = folder / "caddy"
    # Isolated and without site, so it starts in a moment and is not measured.
    path.write_text(f"#!{sys.executable} -IS\n{_PROGRAM}")
    path.chmod(0o755)
    return path
