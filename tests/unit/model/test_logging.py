"""Tests of zerotrust.model.logging."""

import pytest
from pydantic import ValidationError

from zerotrust.model.logging import Logging


def test_levels_are_read_in_any_case() -> None:
    assert Logging.model_validate({"level": "WARN"}).level == "warn"
    for level in ("loud", 5):
        with pytest.raises(ValidationError):
            Logging.model_validate({"level": level})
