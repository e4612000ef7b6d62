"""Tests of the kept requests, against lists."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.server.observed_proxy import ObservedProxy
from zerotrust.server.ops import recent_requests
from zerotrust.server.ops.recent_requests import OWN_PAGES, RecentRequests
from zerotrust.telemetry.request_record import RequestRecord


def record(number: int, service: str = "app") -> RequestRecord:
    made = RequestRecord(
        str(number), method=b"GET", host="a.example", target=b"/", time=1.0, began_at=2.0
    )
    made.agent = "home"
    made.service = service
    return made


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_each_service_keeps_its_last_requests(services: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recent_requests, "MAX_OF_SERVICE", 8)
        patch.setattr(recent_requests, "MAX_REQUESTS", 16)
        kept, model = RecentRequests(), list[tuple[str, str]]()
        for number, service in enumerate(services):
            kept.observe(record(number, service))
            model.append((service, str(number)))
            assert kept.count <= 16
            assert kept.of_service(("home", service))[0].id == str(number)
        found = {name: [one.id for one in kept.of_service(("home", name))] for name in "abc"}
        assert sum(map(len, found.values())) == kept.count
        for name, ids in found.items():
            own = [number for service, number in model if service == name]
            assert ids == own[::-1][: len(ids)], "the newest ones, without a gap"
            assert len(ids) <= 8
        if max(Counter(services).values(), default=0) <= 8 and len(services) <= 16:
            assert kept.count == len(services)
        assert sorted(kept.services) == [("home", name) for name in "abc" if found[name]]


def test_room_is_made_where_most_requests_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_requests, "MAX_REQUESTS", 4)
    kept = RecentRequests()
    for number, service in enumerate("abbbb"):
        kept.observe(record(number, service))
    assert [one.id for one in kept.of_service(("home", "a"))] == ["0"]
    assert [one.id for one in kept.of_service(("home", "b"))] == ["4", "3"]
    assert (kept.count_of(("home", "b")), kept.newest_of(("home", "b"))) == (2, "4")
    assert (kept.count_of(OWN_PAGES), kept.newest_of(OWN_PAGES)) == (0, "")


def test_the_service_that_was_quiet_for_longest_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent_requests, "MAX_SERVICES", 2)
    kept = RecentRequests()
    for number, service in enumerate("abac"):
        kept.observe(record(number, service))
    assert sorted(kept.services) == [("home", "a"), ("home", "c")]
    assert (kept.count, kept.changes) == (3, 3)


def test_the_number_of_services_is_bounded() -> None:
    kept = RecentRequests()
    for number in range(2 * recent_requests.MAX_SERVICES):
        kept.observe(record(number, f"app{number}"))
    assert len(kept.services) == kept.count == recent_requests.MAX_SERVICES


def test_texts_of_strangers_are_cut_and_have_no_query() -> None:
    made = RequestRecord(
        "1", method=b"GET", host="h" * 999, target=b"/" + 999 * b"p", time=1.0, began_at=2.0
    )
    kept = RecentRequests()
    kept.observe(made)
    (found,) = kept.of_service(OWN_PAGES)
    assert (len(found.host), len(found.path)) == (200, 200)
    other = RequestRecord(
        "2", method=b"GET", host="h", target=b"/a\xffb?token=secret", time=1.0, began_at=2.0
    )
    kept.observe(other)
    assert kept.of_service(OWN_PAGES)[0].path == "/a\\xffb"


@pytest.mark.anyio
async def test_a_request_is_kept_as_it_was() -> None:
    proxy = ObservedProxy()
    await proxy.get("/page?token=secret", b"hello", 404)
    (found,) = proxy.recent.of_service(("home", "app"))
    assert (found.method, found.host, found.path) == ("GET", "app.example.com", "/page")
    assert (found.status, found.sent, found.subject) == (404, 5, "user:anna")
    assert found.client == "203.0.113.7"
    assert found.duration > 0
    assert found.tunnel is not None and found.body is not None
