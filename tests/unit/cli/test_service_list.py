"""The list of services, from the command line."""

import json

import pytest

from tests.support.identities import DirectoryServer
from tests.unit.cli.conftest import Ask


@pytest.mark.usefixtures("with_access")
def test_services_are_listed(ask: Ask, server: DirectoryServer) -> None:
    assert ask("services", "list") == (0, "no services\n", "")
    server.registry.expect("photos.example.com", "home", "photos")
    header, row = ask("services", "list")[1].splitlines()
    assert header.split() == ["HOST", "STATE", "AGENT", "SERVICE", "WHO"]
    assert row.split()[:4] == ["photos.example.com", "offline", "home", "photos"]
    assert row.endswith("group family or machine fr*; share links")
    found = json.loads(ask("services", "list", "--json")[1])
    assert found["services"][0]["require"] == []
