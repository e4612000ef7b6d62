"""Tests of zerotrust.caddy.external."""

from typing import Any

import pytest

from zerotrust.caddy.external import adopt, refuse_foreign
from zerotrust.caddy.render import render
from zerotrust.errors import CaddyError
from zerotrust.model.server import Caddy, ServerConfig

EXTERNAL = ServerConfig.model_validate({"caddy": {"mode": "external"}})
FOREIGN: dict[str, Any] = {"apps": {"http": {"servers": {"blog": {"listen": [":80"]}}}}}


def test_admin_and_storage_of_an_external_caddy_are_kept() -> None:
    existing = {
        "admin": {"listen": "0.0.0.0:2019"},
        "storage": {"module": "redis"},
        "logging": {},
        **FOREIGN,
    }
    merged = adopt(render(EXTERNAL), existing)
    assert merged["admin"] == {"listen": "0.0.0.0:2019"}
    assert merged["storage"] == {"module": "redis"}
    assert merged["apps"] == render(EXTERNAL)["apps"]


def test_configured_storage_wins() -> None:
    told = ServerConfig.model_validate(
        {"caddy": {"mode": "external", "storage_dir": "/var/lib/caddy"}}
    )
    assert (
        adopt(render(told), {"storage": {"module": "redis"}})["storage"]["root"] == "/var/lib/caddy"
    )


@pytest.mark.parametrize("existing", [None, {}])
def test_missing_sections_are_not_added(existing: dict[str, Any] | None) -> None:
    assert "admin" not in adopt(render(EXTERNAL), existing)
    assert "storage" not in adopt(render(EXTERNAL), existing)


def test_a_foreign_configuration_is_refused() -> None:
    with pytest.raises(
        CaddyError, match="localhost:2019 runs a configuration that is not 0Trust's"
    ):
        refuse_foreign(FOREIGN, EXTERNAL.caddy)


@pytest.mark.parametrize("existing", [None, {}, {"admin": {}}, render(EXTERNAL)])
def test_an_empty_or_own_configuration_may_be_replaced(existing: dict[str, Any] | None) -> None:
    refuse_foreign(existing, EXTERNAL.caddy)


def test_a_foreign_configuration_is_replaced_if_permitted() -> None:
    refuse_foreign(FOREIGN, Caddy(mode="external", replace_existing_config=True))
