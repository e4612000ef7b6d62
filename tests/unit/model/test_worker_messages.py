"""Tests of zerotrust.model.worker_messages."""

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from zerotrust.model.worker_messages import FinishedRequestInfo, TrafficCounts

NUMBERS = ("requests", "errors", "websockets", "received", "sent")


def counts(histogram: str) -> TrafficCounts:
    said = {"slot": 7, "latencies": [histogram], **{name: [math.nan] for name in NUMBERS}}
    return TrafficCounts.model_validate_json(json.dumps(said))


def test_counts_of_a_slot_without_any() -> None:
    assert math.isnan(counts("").requests[0])
    assert counts("0500000001").latencies == ["0500000001"]


@pytest.mark.parametrize("histogram", ["0", "05000000", "zz00000001", "0500000001" * 129])
def test_a_histogram_that_is_none_is_refused(histogram: str) -> None:
    with pytest.raises(ValidationError):
        counts(histogram)


def test_the_parts_of_a_request_that_were_reached() -> None:
    said: dict[str, Any] = {"edge": 0.1, "waited": 0.0, "policy": 0.2, "tunnel": None}
    said |= {"connect": None, "backend": None, "body": 0.3}
    made = FinishedRequestInfo.model_construct(**said)
    assert made.parts == [("edge", 0.1), ("policy", 0.2), ("body", 0.3)]
