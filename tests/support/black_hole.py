"""A network that swallows what is sent: no reset, no end, no acknowledgement. Linux only."""

import ctypes
import socket
import struct
from typing import Any

_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, 0 (linux/filter.h)


def swallow(connection: Any) -> None:
    """Drop all data for this socket from now on, before TCP sees or acknowledges it."""
    program = ctypes.create_string_buffer(_DROP_ALL)
    connection.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program))
    )
