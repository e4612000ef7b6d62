"""Tests of zerotrust.enrollment.overlaps."""

from zerotrust.enrollment.grant_table import GrantTable
from zerotrust.enrollment.overlaps import MAX_WARNINGS, overlap_warnings


def table(*grants: tuple[str, str]) -> GrantTable:
    made = GrantTable()
    made.replace("file", grants)
    return made


def test_only_what_is_new_is_warned_about() -> None:
    grants = table(("home", "*.a.example"), ("nas", "x.a.example"), ("nas", "y.a.example"))
    (warning,) = overlap_warnings(grants, [("nas", "y.a.example")])
    assert (
        '"*.a.example" is granted to home and "y.a.example" to nas: both may serve y.a.example'
        in warning
    )
    assert len(overlap_warnings(grants, [("home", "*.a.example")])) == 2
    assert overlap_warnings(grants, [("home", "b.example")]) == []


def test_a_wildcard_over_many_names_is_told_in_few_lines() -> None:
    grants = table(
        ("home", "*.a.example"),
        *(("nas", f"x{number}.a.example") for number in range(MAX_WARNINGS + 5)),
    )
    warnings = overlap_warnings(grants, [("home", "*.a.example")])
    assert len(warnings) == MAX_WARNINGS + 1
    assert warnings[-1].startswith("5 more host names")
