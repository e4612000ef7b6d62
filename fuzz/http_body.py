"""Bodies: any cutting gives the same, a writer is undone by its reader, trailers pass their check.

Run: python fuzz/http_body.py -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["zerotrust.http"]):
    from zerotrust.errors import HttpError
    from zerotrust.http.body import Kind, reader_for, writer_for
    from zerotrust.http.deviations import Deviation, Forgive
    from zerotrust.http.head_block import check_trailers


Outcome = tuple[bytes, bytes, bytes | None]


def outcome(
    kind: Kind, length: int, pieces: list[bytes], forgive: Forgive | None = None
) -> Outcome | None:
    """Body, trailers and rest; None where it is refused."""
    reader = reader_for(kind, length, forgive)
    body, rest = b"", None
    try:
        for piece in pieces:
            if rest is None:
                found, rest = reader.feed(piece)
                body += found
            else:
                rest += piece
        if rest is None:
            reader.eof()
    except HttpError:
        return None
    assert check_trailers(reader.trailers)
    return body, reader.trailers, rest


def lenient(pieces: list[bytes]) -> tuple[Outcome | None, set[Deviation]]:
    """Outcome of a chunked body for the lenient reader, and what it forgave."""
    forgiven: set[Deviation] = set()
    found = outcome(Kind.CHUNKED, 0, pieces, lambda deviation, name: forgiven.add(deviation))
    return found, forgiven


def test_one_input(data: bytes) -> None:
    source = atheris.FuzzedDataProvider(data)
    kind = Kind(source.ConsumeIntInRange(0, 4))
    length = source.ConsumeIntInRange(0, 64)
    cut, step = source.ConsumeIntInRange(0, 64), source.ConsumeIntInRange(1, 8)
    raw = source.ConsumeBytes(1 << 16)
    whole = outcome(kind, length, [raw])
    assert outcome(kind, length, [raw[:cut], raw[cut:]]) == whole
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
    assert not raw or outcome(kind, length, pieces) == whole

    if kind == Kind.CHUNKED and raw:
        odd = lenient([raw])
        assert lenient([raw[:cut], raw[cut:]]) == lenient(pieces) == odd
        assert whole is None or odd == (whole, set())

    if kind != Kind.NONE:
        writer = writer_for(kind, len(raw))
        framed = b"".join(part for piece in pieces for part in writer.write(piece)) + b"".join(
            writer.end()
        )
        read = outcome(kind, len(raw), [framed[:cut], framed[cut:]])
        assert read is not None
        assert read[0] == raw
        assert writer.complete


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
