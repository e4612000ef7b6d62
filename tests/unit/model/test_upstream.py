"""Tests of zerotrust.model.upstream."""

import pytest
from pydantic import ValidationError

from zerotrust.model.upstream import (
    HealthCheck,
    LoadBalancing,
    OutlierDetection,
    endpoint_of,
)


def test_the_scheme_of_the_address_wins() -> None:
    assert endpoint_of("a:1", protocol="wss").secured
    assert not endpoint_of("ws://a:1", protocol="https").secured
    assert not endpoint_of("unix:/a", protocol="https").secured


@pytest.mark.parametrize(
    "path", ["", "health", "/a b", "/a\r\nX: y", "/a#b", "/\u00fc", "http://a/"]
)
def test_a_health_check_refuses_an_invalid_path(path: str) -> None:
    with pytest.raises(ValidationError, match="invalid path"):
        HealthCheck(path=path)


@pytest.mark.parametrize(
    "keys", [{"method": "A B"}, {"headers": {"A": "b\r\nc: d"}}, {"headers": {"A b": "c"}}]
)
def test_a_health_check_refuses_an_invalid_method_and_headers(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HealthCheck.model_validate(keys)


@pytest.mark.parametrize(
    ("written", "ranges"),
    [
        (200, ((200, 200),)),
        ("2xx", ((200, 299),)),
        ("5XX", ((500, 599),)),
        ("200 - 399", ((200, 399),)),
        ("204,3xx", ((204, 204), (300, 399))),
        ([200, "401", "3xx, 403"], ((200, 200), (401, 401), (300, 399), (403, 403))),
    ],
)
def test_spellings_of_status_codes(written: object, ranges: tuple[tuple[int, int], ...]) -> None:
    assert HealthCheck.model_validate({"expected_status": written}).expected_status == ranges


@pytest.mark.parametrize(
    "written",
    [
        "",
        "2x",
        "xx",
        "99",
        "600",
        "399-200",
        "200-",
        "-1",
        True,
        None,
        200.5,
        [],
        [[]],
        [""],
        {},
        "٢xx",
        "٢٠٠",
    ],
)
def test_invalid_status_codes(written: object) -> None:
    with pytest.raises(ValidationError):
        HealthCheck.model_validate({"expected_status": written})


def test_a_health_check_expects_success() -> None:
    assert HealthCheck().expected_status == ((200, 299),)
    assert HealthCheck().type == "http"


def test_an_ejection_does_not_start_above_its_maximum() -> None:
    keys = {"base_ejection_time": "30s", "max_ejection_time": "30s"}
    assert OutlierDetection.model_validate(keys)
    with pytest.raises(ValidationError, match=r"max_ejection_time \(29 s\) is shorter"):
        OutlierDetection.model_validate({**keys, "max_ejection_time": "29s"})


@pytest.mark.parametrize(
    ("keys", "keeps"),
    [({}, False), ({"session_affinity": True}, True), ({"policy": "ip_hash"}, True)],
)
def test_balancers_that_keep_clients_on_their_upstream(
    keys: dict[str, object], keeps: bool
) -> None:
    assert LoadBalancing.model_validate(keys).keeps_clients is keeps
