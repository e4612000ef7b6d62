"""Tests of zerotrust.config.diagnostics."""

from zerotrust.config.diagnostics import Problem, dotted, printable, sort_problems, suggestion


def test_a_problem_reads_as_one_line() -> None:
    problem = Problem(
        "agent.yaml",
        12,
        5,
        "services[0].upstreams[0].adress",
        'unknown key, did you mean "address"?',
    )
    assert str(problem) == (
        'agent.yaml:12:5: services[0].upstreams[0].adress: unknown key, did you mean "address"?'
    )
    assert str(Problem("agent.yaml", 0, 0, "", "is empty")) == "agent.yaml: is empty"


def test_problems_are_sorted_without_duplicates() -> None:
    late, early = Problem("f", 3, 1, "a", "x"), Problem("f", 2, 9, "b", "x")
    warned = [Problem("f", 3, 1, "a", "y", "warning"), Problem("f", 1, 1, "c", "y", "warning")]
    assert sort_problems([late, early, late, *warned]) == [warned[1], early, late]


def test_paths_are_written_as_people_write_them() -> None:
    assert (
        dotted(("services", 0, "upstreams", 12, "address")) == "services[0].upstreams[12].address"
    )
    assert dotted(("a\nb",)) == "a\\nb"
    assert dotted(()) == ""


def test_text_of_the_file_is_shown_short_and_without_control_characters() -> None:
    assert printable("ü\x1b[31m\t") == "ü\\x1b[31m\\t"
    assert printable("x" * 500) == "x" * 80 + "…"
    assert printable("x" * 80) == "x" * 80


def test_the_nearest_known_word() -> None:
    assert suggestion("adress", ["address", "weight"]) == ', did you mean "address"?'
    assert suggestion("Health-Check", ["health_check"]) == ', did you mean "health_check"?'
    assert suggestion("zzz", ["address"]) == ""
