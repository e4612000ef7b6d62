"""Tests of zerotrust.server.agents.service_shaping."""

from zerotrust.model.service import TrafficShaping
from zerotrust.server.agents.service_policy import CompiledPolicy, compile_service_policy
from zerotrust.server.agents.service_shaping import ServiceShaping


def compiled(
    limits: dict[str, str] | None, before: CompiledPolicy | None = None
) -> CompiledPolicy | None:
    policy = {"traffic_shaping": limits} if limits is not None else {}
    return compile_service_policy(policy, secret=b"s" * 32, before=before)


def test_the_same_limits_go_on() -> None:
    first = compiled({"upload_limit": "1MB/s"})
    assert first is not None
    assert first.shaping is not None
    assert (first.shaping.up is None, first.shaping.down is None) == (False, True)
    same = compiled({"upload_limit": "1MB/s"}, first)
    assert same is not None
    assert same.shaping is first.shaping
    other = compiled({"upload_limit": "2MB/s"}, first)
    assert other is not None
    assert other.shaping is not first.shaping


def test_no_limits_cost_nothing() -> None:
    assert compiled({}) is None
    assert compiled(None) is None
    assert ServiceShaping.of(None, None) is None
    both = ServiceShaping.of(TrafficShaping(per_ip_limit="1MB/s"), None)
    assert both is not None
    assert both.up is not None
    assert both.down is not None
