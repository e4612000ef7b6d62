import pytest

from tests.unit.access.credentials import link, pass_of, request
from zerotrust.access.link_scope import check_prefix, in_scope
from zerotrust.errors import AccessError
from zerotrust.routing.match import AmbiguousPath


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/", b""),
        ("/album/7", b"/album/7"),
        ("/album/7/", b"/album/7"),
        ("/My%20Pics", b"/My Pics"),
    ],
)
def test_prefixes_of_links(path: str, prefix: bytes) -> None:
    assert check_prefix(path) == prefix


@pytest.mark.parametrize(
    "path",
    [
        "",
        "album",
        "*",
        "/a?b",
        "/a#b",
        "/a/../b",
        "/a/%2e%2e",
        "//a",
        "/a;b",
        "/a%2fb",
        "/ä",
        "/a\\b",
    ],
)
def test_paths_that_cannot_be_shared(path: str) -> None:
    with pytest.raises(AccessError):
        check_prefix(path)
    assert not path or not in_scope(
        pass_of(link(), path=path), request(path.encode().decode("latin-1"))
    )


def test_a_prefix_is_one_of_whole_segments() -> None:
    shared = pass_of(link(), path="/album/7")
    for target in ("/album/7", "/album/7/x", "/album/7?x", "/%61lbum/7"):
        assert in_scope(shared, request(target))
    for target in ("/album/70", "/album/", "/", "*", "/x/album/7"):
        assert not in_scope(shared, request(target))
    with pytest.raises(AmbiguousPath):
        in_scope(shared, request("//album/7"))


def test_a_star_in_a_prefix_is_no_pattern() -> None:
    shared = pass_of(link(), path="/a*")
    assert in_scope(shared, request("/a*/x"))
    assert not in_scope(shared, request("/ab"))


def test_no_path_and_no_methods_are_all() -> None:
    assert in_scope(pass_of(link()), request("/x", method="DELETE"))
    assert in_scope(pass_of(link(), path="/"), request("/x//y"))
    assert not in_scope(pass_of(link(), methods=("GET",)), request("/x", method="DELETE"))
