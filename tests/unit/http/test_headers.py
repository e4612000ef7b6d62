from zerotrust.http.headers import (
    FORWARDING,
    HOP_BY_HOP,
    REQUEST_SPECIAL,
    RESPONSE_SPECIAL,
    SPOOFABLE,
    SPOOFABLE_PREFIXES,
    folded,
    is_forbidden_trailer,
    is_ours,
    is_spoofable,
    is_usual_trailer,
    tokens,
)


def test_a_list_is_lower_case_without_white_space_or_empty_members() -> None:
    assert tokens(b"Keep-Alive,\t Upgrade ,, TE\t") == [b"keep-alive", b"upgrade", b"te"]
    assert tokens(b"") == tokens(b" , ,") == []


def test_only_comma_space_and_tab_separate() -> None:
    assert tokens(b"a\x0b,b\xa0;c") == [b"a\x0b", b"b\xa0;c"]


def test_names_are_kept_in_the_form_in_which_they_are_compared() -> None:
    names = (
        HOP_BY_HOP
        | FORWARDING
        | REQUEST_SPECIAL
        | RESPONSE_SPECIAL
        | SPOOFABLE
        | set(SPOOFABLE_PREFIXES)
    )
    assert all(name == folded(name) for name in names)


def test_framing_is_special_everywhere() -> None:
    for name in (b"content-length", b"transfer-encoding", b"connection"):
        assert name in REQUEST_SPECIAL
        assert name in RESPONSE_SPECIAL
        assert is_forbidden_trailer(name)


def test_field_names_by_permission() -> None:
    assert all(is_ours(name) and not is_usual_trailer(name) for name in FORWARDING)
    assert is_ours(b"x-0trust-user")
    assert not any(is_ours(name) for name in SPOOFABLE)
    assert is_spoofable(b"x-forwarded-anything")
    assert not is_spoofable(b"x-user")
    assert not is_spoofable(b"proxy-status")


def test_no_trailer_is_usual_and_forbidden() -> None:
    usual = (
        "digest content-digest etag server-timing signature x-checksum x-checksum-sha256"
        " grpc-status x-stream-error"
    )
    for name in usual.encode().split():
        assert is_usual_trailer(name)
        assert not is_forbidden_trailer(name)
    for name in (
        SPOOFABLE
        | HOP_BY_HOP
        | FORWARDING
        | {b"strict-transport-security", b"access-control-max-age"}
    ):
        assert is_forbidden_trailer(name)
        assert not is_usual_trailer(name)
    assert not is_usual_trailer(b"x-sum")
    assert not is_forbidden_trailer(b"x-sum")
