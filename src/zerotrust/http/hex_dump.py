"""Hexadecimal dump of bytes, for people."""

from typing import Final

_WIDTH: Final = 16


def hex_dump(data: bytes) -> str:
    """Return lines of 16 bytes: their place, the bytes, and those that are printable ASCII."""
    lines = []
    for at in range(0, len(data), _WIDTH):
        row = data[at : at + _WIDTH]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(f"{at:04x}  {row.hex(' '):<{_WIDTH * 3 - 1}}  {text}")
    return "\n".join(lines)
