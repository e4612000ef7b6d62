from zerotrust.http.headers import (
    FORBIDDEN_TRAILERS,
    FORWARDING,
    HOP_BY_HOP,
    REQUEST_SPECIAL,
    RESPONSE_SPECIAL,
    tokens,
)


def test_a_list_is_lower_case_without_white_space_or_empty_members() -> None:
    assert tokens(b"Keep-Alive,\t Upgrade ,, TE\t") == [b"keep-alive", b"upgrade", b"te"]
    assert tokens(b"") == tokens(b" , ,") == []


def test_only_comma_space_and_tab_separate() -> None:
    assert tokens(b"a\x0b,b\xa0;c") == [b"a\x0b", b"b\xa0;c"]


def test_names_are_kept_in_the_form_in_which_they_are_compared() -> None:
    names = HOP_BY_HOP | FORWARDING | REQUEST_SPECIAL | RESPONSE_SPECIAL | FORBIDDEN_TRAILERS
    assert all(name == name.lower() for name in names)


def test_framing_is_special_everywhere() -> None:
    for name in (b"content-length", b"transfer-encoding", b"connection"):
        assert name in REQUEST_SPECIAL
        assert name in RESPONSE_SPECIAL
        assert name in FORBIDDEN_TRAILERS
