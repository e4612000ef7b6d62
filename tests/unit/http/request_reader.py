"""Reader of one request from bytes, as a connection reads it: head, framing, body."""

from collections.abc import Iterable
from itertools import pairwise

from zerotrust.http.body import reader_for, request_framing
from zerotrust.http.head import RequestHead, find_head_end, parse_request


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return the data in pieces, split at these positions (modulo its length)."""
    at = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(at)]


def read_request(pieces: Iterable[bytes]) -> tuple[RequestHead, bytes, bytes, bytes] | None:
    """Return head, body, trailers and rest; None if the message is incomplete."""
    buffer, searched, head, reader, body, rest = b"", 0, None, None, b"", None
    for piece in pieces:
        if rest is not None:
            rest += piece
            continue
        if reader is None:
            buffer += piece
            end = find_head_end(buffer, searched)
            searched = len(buffer)
            if end < 0:
                continue
            head = parse_request(buffer[:end])
            reader = reader_for(*request_framing(head.fields))
            piece = buffer[end:]
        found, rest = reader.feed(piece)
        body += found
    if head is None or reader is None or rest is None:
        return None
    return head, body, reader.trailers, rest
