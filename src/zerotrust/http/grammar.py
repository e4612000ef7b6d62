"""The grammar of RFC 9110 s5 and RFC 9112 s2 to s5 in regular expressions, strict where the RFC is lenient.

Every repetition is possessive: whatever a peer sends, each byte is looked at once. A *canonical* field line is
`Name: value` CRLF with one space and no other white space around the value: the only form that 0Trust itself writes.
"""

from typing import Final

# RFC 9110 s5.6.2: token = 1*tchar
TCHAR: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN: Final = TCHAR + rb"++"
# RFC 9110 s5.5: VCHAR, obs-text, and SP and HTAB between them; no other control byte, so no CR, LF or NUL
TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]*+"
VALUE: Final = rb"(?:[\x21-\x7e\x80-\xff]" + TEXT + rb"(?<![\t ]))?+"
# RFC 9112 s3.2: VCHAR without "#", because a fragment is never sent, and without obs-text
TARGET: Final = rb"[\x21\x22\x24-\x7e]++"
HOST: Final = rb"(?:[0-9A-Za-z._-]++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{0,5}+)?+"

LINES: Final = rb"(?:" + TOKEN + rb": " + VALUE + rb"\r\n)*+"
"""Canonical field lines."""

LOOSE_LINES: Final = rb"(?:" + TOKEN + rb":" + TEXT + rb"\r\n)*+"
"""Field lines as RFC 9112 s5 allows them; obs-fold and white space before the colon are not in it."""

# RFC 9110 s7.8: Upgrade = #( protocol-name [ "/" protocol-version ] )
PROTOCOLS: Final = rb"%b(?:/%b)?+(?:[\t ]*+,[\t ]*+%b(?:/%b)?+)*+" % (TOKEN, TOKEN, TOKEN, TOKEN)
