"""Whose configuration an external Caddy keeps."""

from typing import Any

import pytest

from zerotrust.caddy.external import adopt, refuse_foreign
from zerotrust.caddy.render import render
from zerotrust.errors import CaddyError
from zerotrust.model.server import Caddy, ServerConfig

EXTERNAL = ServerConfig.model_validate({"caddy": {"mode": "external"}})
FOREIGN: dict[str, Any] = {"apps": {"http": {"servers": {"blog": {"listen": [":80"]}}}}}


def test_admin_and_storage_stay_those_of_its_owner() -> None:
    existing = {"admin": {"listen": "0.0.0.0:2019"}, "storage": {"module": "redis"}, "logging": {}, **FOREIGN}
    merged = adopt(render(EXTERNAL), existing)
    assert merged["admin"] == {"listen": "0.0.0.0:2019"}
    assert merged["storage"] == {"module": "redis"}
    assert merged["apps"] == render(EXTERNAL)["apps"]


def test_storage_that_we_are_told_wins() -> None:
    told = ServerConfig.model_validate({"caddy": {"mode": "external", "storage_dir": "/var/lib/caddy"}})
    assert adopt(render(told), {"storage": {"module": "redis"}})["storage"]["root"] == "/var/lib/caddy"


@pytest.mark.parametrize("existing", [None, {}])
def test_what_it_does_not_say_we_do_not_say(existing: dict[str, Any] | None) -> None:
    assert "admin" not in adopt(render(EXTERNAL), existing)
    assert "storage" not in adopt(render(EXTERNAL), existing)


def test_a_foreign_configuration_is_refused() -> None:
    with pytest.raises(CaddyError, match="localhost:2019 runs a configuration that is not 0Trust's"):
        refuse_foreign(FOREIGN, EXTERNAL.caddy)


@pytest.mark.parametrize("existing", [None, {}, {"admin": {}}, render(EXTERNAL)])
def test_nothing_or_our_own_may_be_replaced(existing: dict[str, Any] | None) -> None:
    refuse_foreign(existing, EXTERNAL.caddy)


def test_a_foreign_configuration_may_be_given_to_us() -> None:
    refuse_foreign(FOREIGN, Caddy(mode="external", replace_existing_config=True))
