"""The way of a device to a sign-in, from the command line."""

import pytest

from tests.unit.cli.conftest import Ask


@pytest.mark.usefixtures("with_access")
def test_the_steps_name_the_pages(ask: Ask) -> None:
    code, out, _ = ask("pair")
    assert code == 0
    assert "open https://auth.example.com/me and make a code" in out
    assert "open https://auth.example.com/pair and type the code" in out
    assert "180 days" in out
