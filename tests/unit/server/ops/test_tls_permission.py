"""Tests of zerotrust.server.ops.tls_permission: for which names Caddy may get a certificate."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from structlog.testing import capture_logs

from tests.support.agent_sessions import join
from zerotrust.enrollment.grant_table import GrantTable
from zerotrust.http.body import Kind, request_framing
from zerotrust.http.head import parse_request
from zerotrust.model.limits import Limits
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.scheme import OfferedSchemes
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.ops.certificate_budget import HOUR, CertificateBudget
from zerotrust.server.ops.certificate_orders import CertificateOrders
from zerotrust.server.ops.tls_permission import PATH, TlsPermission

GRANTS = [
    ("home", "secure.example"),
    ("home", "plain.example"),
    ("home", "a.shop.example"),
    ("home", "*.shop.example"),
    ("mallory", "*.shop.example"),
    ("mallory", "*.test"),
]


class Orders:
    """Orders of which one host name has to wait for its turn."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, Callable[[bool], None], Callable[[], bool]]] = []

    def needs_turn(self, host: str) -> bool:
        return host == "secure.example"

    def ask(
        self, host: str, decided: Callable[[bool], None], abandoned: Callable[[], bool]
    ) -> None:
        self.waiting.append((host, decided, abandoned))


class Caddy:
    """Asks, and keeps the answer."""

    def __init__(self, storage: Path | None = None, orders: Orders | None = None) -> None:
        self._registry, grants = Registry(), GrantTable()
        self.said: list[tuple[bytes, bool]] = []
        self.now = 0.0
        grants.replace("file", GRANTS)
        self.serve("home", "secure.example")
        self.serve("home", "plain.example", https=False)
        self.budget = CertificateBudget(
            Limits(certificates_per_agent=3, certificates_per_domain=2, certificates_per_wildcard=2)
        )
        self._permission = TlsPermission(
            self._registry,
            grants,
            self.budget,
            orders=cast("CertificateOrders | None", orders),
            storage=storage,
            clock=lambda: self.now,
            own_hosts=lambda: ["tunnel.example"],
        )

    def serve(self, agent: str, *hosts: str, https: bool = True) -> None:
        """Have an agent connect and register host names."""
        session = join(self._registry, agent, SimpleNamespace(attached=True))
        binding = OfferedSchemes(http=True, https=https, redirect=False)
        self._registry.register(
            ServiceRegistration(session, hosts[0], b"x", hosts, True, schemes=binding)
        )

    def permits(self, *hosts: str) -> list[bool]:
        return [self.ask(f"GET {PATH}?domain={host}") == 200 for host in hosts]

    def reply(self, reply: bytes, *, close: bool) -> None:
        self.said.append((reply, close))

    def begin(self, start: str, *fields: str) -> tuple[RequestSink | None, bool]:
        """Ask; return the owner of the question, and True if it has a body."""
        head = parse_request(
            "\r\n".join([f"{start} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()
        )
        framing = request_framing(head.fields)
        sink = self._permission.request(cast("HttpServerConnection", self), head, framing)
        return sink, framing[0] is not Kind.NONE

    def ask(self, start: str, *fields: str) -> int:
        sink, has_body = self.begin(start, *fields)
        assert sink is None
        reply, close = self.said[-1]
        assert close == has_body
        return int(reply.split()[1])


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (f"GET {PATH}?domain=secure.example", 200),
        (f"GET {PATH}?domain=SECURE.example.", 200),
        (f"GET {PATH}?domain=Tunnel.example", 200),
        (f"GET {PATH}?domain=plain.example", 403),
        (f"GET {PATH}?domain=stranger.example", 403),
        (f"GET {PATH}?domain=secure.example&domain=stranger.example", 403),
        (f"GET {PATH}?domain=..", 403),
        (f"GET {PATH}?domain=", 403),
        (f"GET {PATH}", 403),
        ("GET /?domain=secure.example", 403),
        (f"POST {PATH}?domain=secure.example", 403),
        (f"GET {PATH}?domain=//[", 403),
        ("GET //[", 403),
        ("GET /é?ü", 403),
        (f"GET {PATH}?domain=é.example", 403),
        ("GET //[::1?domain=secure.example", 403),
    ],
)
def test_only_names_that_are_served_over_https(start: str, status: int) -> None:
    assert Caddy().ask(start) == status


@pytest.mark.parametrize(("turn", "status"), [(True, b"200"), (False, b"403")])
def test_a_question_waits_for_the_turn_of_this_server(turn: bool, status: bytes) -> None:
    orders = Orders()
    caddy = Caddy(orders=orders)
    assert caddy.permits("tunnel.example", "stranger.example") == [True, False]
    caddy.said.clear()
    sink, _ = caddy.begin(f"GET {PATH}?domain=Secure.example")
    assert sink is not None
    ((host, decided, abandoned),) = orders.waiting
    assert (host, abandoned(), caddy.said) == ("secure.example", False, [])
    decided(turn)
    ((reply, close),) = caddy.said
    assert (reply.split()[1], close) == (status, False)


def test_a_question_that_caddy_abandons_gets_no_answer() -> None:
    orders = Orders()
    caddy = Caddy(orders=orders)
    sink, _ = caddy.begin(f"GET {PATH}?domain=secure.example")
    assert sink is not None
    sink.body(b"x", end=False)
    sink.body_trailers(b"")
    sink.drained()
    sink.aborted()
    ((_, decided, abandoned),) = orders.waiting
    assert abandoned()
    decided(True)
    assert caddy.said == []


def test_a_question_with_a_body_ends_the_connection() -> None:
    assert Caddy().ask(f"GET {PATH}?domain=secure.example", "Content-Length: 1") == 200


def shop(count: int, prefix: str = "x") -> list[str]:
    return [f"{prefix}{number}.shop.example" for number in range(count)]


def test_new_names_of_a_wildcard_are_limited_and_stay_what_they_are() -> None:
    caddy, hosts = Caddy(), shop(10)
    caddy.serve("mallory", *hosts)
    with capture_logs() as logs:
        assert caddy.permits(*hosts) == [True] * 2 + [False] * 8
        assert caddy.permits(*hosts) == [True] * 2 + [False] * 8
    (line,) = logs
    assert line["event"].startswith("no certificate: ")
    assert {**line, "event": ""} == {
        "event": "",
        "log_level": "warning",
        "agent": "mallory",
        "host_name": "x2.shop.example",
        "domain": "shop.example",
        "wildcard": None,
        "limit": "certificates_per_domain",
    }
    assert caddy.budget.permitted == {"mallory": 2}
    assert caddy.budget.refused == {"mallory": 16}


def test_names_that_no_public_authority_counts_are_not_limited() -> None:
    """A name that was granted by itself, and those of Caddy's internal authority."""
    caddy, private = Caddy(), [f"x{number}.test" for number in range(9)]
    caddy.serve("mallory", *private, *shop(9))
    caddy.permits(*shop(9))
    caddy.serve("home", "a.shop.example")
    assert all(caddy.permits("a.shop.example", "secure.example", *private))


def test_an_agent_that_has_used_up_its_own_takes_nothing_from_another() -> None:
    """Not even where it serves the other's names too, and did so first."""
    caddy = Caddy()
    caddy.serve("mallory", *shop(9), *shop(2, "honest"))
    caddy.permits(*shop(9))
    assert caddy.permits(*shop(2, "honest")) == [False, False]
    caddy.serve("home", *shop(2, "honest"))
    refused = caddy.budget.refused.copy()
    assert caddy.permits(*shop(2, "honest")) == [True, True]
    assert caddy.budget.refused == refused


def test_a_name_that_has_a_certificate_is_permitted_after_a_restart(tmp_path: Path) -> None:
    """Caddy asks again before a renewal, and drops the certificate if it is refused."""
    caddy, hosts = Caddy(tmp_path), shop(9)
    for host in hosts:
        folder = tmp_path / "certificates" / "acme-v02.api.letsencrypt.org-directory" / host
        folder.mkdir(parents=True)
        (folder / f"{host}.crt").touch()
    caddy.serve("mallory", *hosts, *shop(3, "new"))
    assert all(caddy.permits(*hosts))
    assert caddy.permits(*shop(3, "new")) == [True, True, False]


def test_a_name_too_long_for_a_file_has_no_certificate(tmp_path: Path) -> None:
    host = f"{'.'.join(['x' * 60] * 4)}.example"
    caddy = Caddy(tmp_path)
    caddy.serve("mallory", host)
    assert caddy.permits(host) == [True]


def test_time_makes_room() -> None:
    caddy = Caddy()
    caddy.serve("mallory", *shop(9))
    caddy.permits(*shop(9))
    caddy.now = 8 * 24 * HOUR
    assert caddy.permits(*shop(9)) == [True] * 4 + [False] * 5


@pytest.mark.parametrize("wildcard", ["*.test", "*"])
def test_clients_make_up_only_so_many_names_below_a_wildcard(wildcard: str) -> None:
    """Each is an order, also where Caddy's internal authority is the one that takes it."""
    caddy, private = Caddy(), [f"x{number}.test" for number in range(9)]
    caddy.serve("home", wildcard)
    with capture_logs() as logs:
        assert caddy.permits(*private) == [True] * 2 + [False] * 7
    assert caddy.permits(*private) == [True] * 2 + [False] * 7, "what was permitted stays so"
    (line,) = logs
    assert (line["limit"], line["wildcard"]) == ("certificates_per_wildcard", wildcard)
    assert (line["host_name"], line["domain"]) == ("x2.test", None)
    caddy.now = HOUR
    assert caddy.permits(*private) == [True] * 4 + [False] * 5


def test_names_below_a_wildcard_take_half_of_the_limits_of_its_agent_and_domain() -> None:
    caddy = Caddy()
    caddy.serve("mallory", "*.shop.example")
    assert caddy.permits(*shop(2)) == [True, False]
    caddy.serve("mallory", *shop(2, "named"))
    assert caddy.permits(*shop(2, "named")) == [True, False]


def test_a_name_with_a_grant_or_service_of_its_own_needs_no_room_of_the_wildcard() -> None:
    caddy = Caddy()
    caddy.serve("mallory", "*.test", "own.test")
    caddy.serve("home", "*.shop.example")
    caddy.permits("1.test", "2.test", "3.test", *shop(3))
    assert caddy.permits("own.test", "4.test") == [True, False]
    assert caddy.permits("a.shop.example", "b.shop.example") == [True, False]


@pytest.mark.parametrize(
    ("name", "permitted"),
    [
        ("a.test", True),
        ("*.test", False),
        ("*", False),
        ("a.b.test", False),
        ("test", False),
        ("192.0.2.7", False),
        ("[2001:db8::1]", False),
    ],
)
def test_a_certificate_is_for_a_name_below_the_wildcard(name: str, permitted: bool) -> None:
    caddy = Caddy()
    caddy.serve("home", "*.test")
    assert caddy.permits(name) == [permitted]


def test_the_rest_has_no_certificates_for_addresses() -> None:
    caddy = Caddy()
    caddy.serve("home", "*")
    assert caddy.permits("192.0.2.7", "[2001:db8::1]", "nas", "any.example.com") == [
        False,
        False,
        True,
        True,
    ]


def test_a_wildcard_over_http_alone_has_no_certificates() -> None:
    caddy = Caddy()
    caddy.serve("home", "*.test", https=False)
    assert caddy.permits("a.test") == [False]
