import pytest

from zerotrust.model.network import parse_network


@pytest.mark.parametrize(
    ("text", "network"),
    [("10.1.2.3/8", "10.0.0.0/8"), (" 192.0.2.7 ", "192.0.2.7/32"), ("::1", "::1/128")],
)
def test_networks_in_canonical_form(text: str, network: str) -> None:
    assert parse_network(text) == network


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "1.2.3", "home"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid address or network"):
        parse_network(text)
