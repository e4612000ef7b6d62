"""Tests of zerotrust.server.ops.access_parts."""

import re
from io import StringIO

from ruamel.yaml import YAML

from zerotrust.model.access import Access
from zerotrust.server.ops.access_parts import AccessOffError


def test_the_lines_to_begin_with_are_a_section() -> None:
    found = re.search(r"begin with: access: (\{.*\}); then", str(AccessOffError()))
    assert found is not None
    access = Access.model_validate(YAML(typ="safe").load(StringIO(found[1])))
    assert access.rules[0].hosts == ["photos.example.com"]
