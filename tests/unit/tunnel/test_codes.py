import re
from pathlib import Path

from zerotrust.tunnel.codes import END, INTERIM, MORE, Code, FrameType

SPEC = (Path(__file__).parents[3] / "docs" / "spec" / "tunnel-v1.md").read_text(encoding="utf-8")


def rows(first_column: str) -> list[list[str]]:
    """The body of the table of the specification whose head row begins so."""
    lines = SPEC.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_types_are_those_of_the_specification() -> None:
    assert {(int(row[0], 16), row[1]) for row in rows("type")} == {
        (int(t), t.name) for t in FrameType
    }


def test_counted_types_and_types_of_streams_are_ranges() -> None:
    for number, _, counted, stream, _ in rows("type"):
        assert (counted == "yes") == (int(number, 16) >= 0x10)
        assert (stream == "id") == (int(number, 16) >= 0x20)


def test_codes_are_those_of_the_specification() -> None:
    assert {(int(row[0]), row[1]) for row in rows("code")} == {(int(c), c.name) for c in Code}


def test_a_code_that_is_not_known_is_internal() -> None:
    assert Code(9999) is Code.INTERNAL
    assert Code(65535) is Code.INTERNAL


def test_flags_are_those_of_the_specification() -> None:
    flags = re.findall(r"(0x\d\d) is\s(END|INTERIM|MORE)", SPEC)
    expected = {"END": END, "INTERIM": INTERIM, "MORE": MORE}
    assert {name: int(number, 16) for number, name in flags} == expected
