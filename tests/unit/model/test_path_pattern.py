import pytest
from pydantic import TypeAdapter, ValidationError

from zerotrust.model.path_pattern import PathPattern, check_path_pattern

PATTERN: TypeAdapter[str] = TypeAdapter(PathPattern)


@pytest.mark.parametrize("text", ["/", "/*", "*", "/admin/*", "/a*b/c", "/ä"])
def test_patterns(text: str) -> None:
    assert PATTERN.validate_python(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("admin", "begins with /"),
        ("/a?b", "queries open nothing"),
        ("/a#b", "write only the path"),
        ("/a;b", "write only the path"),
        ("/a%2Fb", "write only the path"),
        ("/a//b", "without //"),
        ("/a/../b", "without //"),
    ],
)
def test_patterns_that_match_no_request(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PATTERN.validate_python(text)


def test_an_empty_pattern_of_a_route_matches_all() -> None:
    assert check_path_pattern("") == ""
