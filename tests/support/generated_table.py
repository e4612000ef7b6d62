"""Tables of the documentation that tests generate: `UPDATE_DOCS=1 pytest …` writes them."""

import os
from collections.abc import Sequence
from pathlib import Path


def check_table(page: Path, name: str, rows: Sequence[Sequence[str]]) -> None:
    """Check that a page has this table between its two markers, `<!-- NAME -->` and `<!-- end -->`.

    Args:
        rows: cells in Markdown; the first row is the head of the table.
    """
    head, *body = ["| " + " | ".join(cells) + " |" for cells in rows]
    table = "\n".join([head, "|" + " --- |" * len(rows[0]), *body])
    text = page.read_text()
    before, marker, rest = text.partition(f"<!-- {name} -->\n")
    assert marker, f"{page} has no marker <!-- {name} -->"
    _, end, after = rest.partition("<!-- end -->")
    assert end, f"{page} has no <!-- end --> after <!-- {name} -->"
    expected = f"{before}{marker}{table}\n{end}{after}"
    if os.environ.get("UPDATE_DOCS") == "1":
        page.write_text(expected)
        return
    assert text == expected, (
        f"the table {name} of {page} differs from what the tests found; "
        f"write it with UPDATE_DOCS=1:\n{table}"
    )
