"""Tests of zerotrust.model.logging."""

import pytest
from pydantic import ValidationError

from zerotrust.model.logging import HotReload, Logging


def test_levels_are_read_in_any_case() -> None:
    assert Logging.model_validate({"level": "WARN"}).level == "warn"
    for level in ("loud", 5):
        with pytest.raises(ValidationError):
            Logging.model_validate({"level": level})


@pytest.mark.parametrize(
    ("keys", "seconds"),
    [
        ({}, 30.0),
        ({"graceful_timeout": "5s"}, 5.0),
        ({"drain_timeout": 0}, 0.0),
        ({"graceful_timeout": "5s", "drain_timeout": "30s"}, 30.0),
    ],
)
def test_both_names_of_the_drain_timeout(keys: dict[str, object], seconds: float) -> None:
    assert HotReload.model_validate(keys).drains_for == seconds


def test_the_reload_signal_is_read_in_any_case() -> None:
    assert HotReload.model_validate({"reload_signal": "sighup"}).reload_signal == "SIGHUP"
    for signal in ("SIGKILL", 1):
        with pytest.raises(ValidationError):
            HotReload.model_validate({"reload_signal": signal})
