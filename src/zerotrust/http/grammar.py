"""Regular expressions for RFC 9110 s5 and RFC 9112 s2 to s5, strict where the RFCs are lenient.

Every repetition is possessive, so matching takes linear time for any input. A *canonical* field
line is `Name: value` CRLF with one space and no other white space around the value. 0Trust writes
only canonical lines.
"""

from typing import Final

# RFC 9110 s5.6.2: token = 1*tchar
TCHAR: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN: Final = TCHAR + rb"++"
# RFC 9110 s5.5: VCHAR, obs-text, and SP and HTAB between them; no other control byte, so no CR, LF
# or NUL
TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]*+"
VALUE: Final = rb"(?:[\x21-\x7e\x80-\xff]" + TEXT + rb"(?<![\t ]))?+"
# RFC 9112 s3.2: VCHAR without "#", because a fragment is never sent. Devices and scripts send other
# bytes than ASCII as they are; servers accept them, and backends read UTF-8 or Latin-1.
TARGET: Final = rb"[\x21\x22\x24-\x7e\x80-\xff]++"
HOST: Final = rb"(?:[0-9A-Za-z._-]++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{0,5}+)?+"

LINES: Final = rb"(?:" + TOKEN + rb": " + VALUE + rb"\r\n)*+"
"""Canonical field lines."""

LOOSE_LINES: Final = rb"(?:" + TOKEN + rb":" + TEXT + rb"\r\n)*+"
"""Field lines of RFC 9112 s5, without obs-fold and without white space before the colon."""

# RFC 9110 s7.8: Upgrade = #( protocol-name [ "/" protocol-version ] )
PROTOCOLS: Final = rb"%b(?:/%b)?+(?:[\t ]*+,[\t ]*+%b(?:/%b)?+)*+" % (TOKEN, TOKEN, TOKEN, TOKEN)
