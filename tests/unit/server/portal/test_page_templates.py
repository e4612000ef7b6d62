from zerotrust.server.portal.page_templates import foreign, moment, sentence


def test_moments_are_in_utc() -> None:
    assert moment(1_800_000_000) == (
        '<time datetime="2027-01-15T08:00:00Z">15 Jan 2027, 08:00 UTC</time>'
    )
    assert moment(None) == "never"


def test_texts_of_strangers_are_cut() -> None:
    assert foreign("x" * 200) == "x" * 200
    assert foreign("x" * 201) == "x" * 199 + "…"


def test_messages_become_sentences() -> None:
    assert sentence("the code is wrong") == "The code is wrong."
    assert sentence("Try again!") == "Try again!"
    assert sentence("") == ""
