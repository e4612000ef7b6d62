"""Tests of authorization: revoked agents and certificates, granted host names."""

from hypothesis import given
from hypothesis import strategies as st

from zerotrust.server.identity.authorization import Authorization


class Some:
    """Revocations of these agents and certificates."""

    def __init__(self, *revoked: str) -> None:
        self._revoked = revoked

    def refuses(self, agent: str, serial: str) -> bool:
        return agent in self._revoked or serial in self._revoked


def test_nobody_is_revoked_and_nothing_is_granted_at_first() -> None:
    authorization = Authorization()
    assert authorization.refusal("home", "1f") is None
    granted, refused = authorization.judge("home", ["a.example.com"])
    assert granted == []
    assert refused == {
        "a.example.com": "not granted to home; on the server: 0trust grants add home a.example.com"
    }


def test_each_name_is_judged_by_itself() -> None:
    authorization = Authorization()
    authorization.grants.replace("file", [("home", "a.example.com"), ("work", "b.example.com")])
    authorization.grants.replace("database", [("home", "*.lab.example.com")])
    granted, refused = authorization.judge(
        "home", ["a.example.com", "b.example.com", "x.lab.example.com"]
    )
    assert granted == ["a.example.com", "x.lab.example.com"]
    assert list(refused) == ["b.example.com"]


def test_revoked_by_agent_or_by_certificate() -> None:
    authorization = Authorization(any_host=True)
    authorization.revoked = Some("home", "2a")
    assert "0trust agents restore home" in (authorization.refusal("home", "1") or "")
    assert authorization.refusal("work", "2a") is not None
    assert authorization.refusal("work", "2b") is None


@given(st.lists(st.sampled_from(["a.example.com", "b.example.com"])))
def test_any_host_needs_no_grant(hosts: list[str]) -> None:
    assert Authorization(any_host=True).judge("home", hosts) == (hosts, {})


def test_no_grant_opens_a_host_name_of_the_server_itself() -> None:
    for authorization in (Authorization(any_host=True), Authorization()):
        authorization.grants.replace("file", [("home", "*"), ("home", "auth.example.com")])
        authorization.reserved = frozenset({"auth.example.com"})
        granted, refused = authorization.judge("home", ["*", "auth.example.com"])
        assert granted == ["*"]
        assert list(refused) == ["auth.example.com"]
        assert "of the server itself" in refused["auth.example.com"]
        assert not authorization.may_serve("home", "auth.example.com")
