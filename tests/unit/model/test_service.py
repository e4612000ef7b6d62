"""Tests of zerotrust.model.service."""

from typing import Any

import pytest
from pydantic import ValidationError

from zerotrust.model.policy import ServicePolicy
from zerotrust.model.service import MAX_HOSTS, NO_BACKEND, NO_HOST, TWO_BACKENDS, Service

JWT = {"algorithm": "HS256", "secret": "s" * 32}


def service(**keys: Any) -> Service:
    return Service.model_validate({"hostname": "App.Example.com", "backend": "10.0.0.1:80", **keys})


def test_the_simple_form() -> None:
    found = service()
    assert found.service_id == "app.example.com"
    assert found.host_names == ("app.example.com",)
    assert [found.endpoint(upstream) for upstream in found.backends] == [
        ("10.0.0.1", 80, False, "")
    ]
    assert found.websocket


def test_host_names_once_hostname_first() -> None:
    assert service(hosts=["b.example.com", "APP.example.com."]).host_names == (
        "app.example.com",
        "b.example.com",
    )
    assert service(id="web").service_id == "web"


@pytest.mark.parametrize(
    ("address", "protocol", "upstream"),
    [
        ("10.0.0.1:8080", "http", ("10.0.0.1", 8080, False)),
        ("10.0.0.1:8080", "https", ("10.0.0.1", 8080, True)),
        ("10.0.0.1:8080", "wss", ("10.0.0.1", 8080, True)),
        ("http://a", "https", ("a", 80, False)),
        ("https://a/", "http", ("a", 443, True)),
        ("WSS://a:9", "http", ("a", 9, True)),
        ("ws://[::1]", "http", ("::1", 80, False)),
        ("[::1]:9", "http", ("::1", 9, False)),
        ("unix:/run/a b.sock", "https", ("localhost", 80, False)),
    ],
)
def test_endpoints_of_backend_addresses(
    address: str, protocol: str, upstream: tuple[str, int, bool]
) -> None:
    simple = service(backend=address, protocol=protocol)
    listed = service(backend=None, upstreams=[{"address": address}], protocol=protocol)
    for found in (simple, listed):
        endpoint = found.endpoint(found.backends[0])
        assert endpoint[:3] == upstream
        assert endpoint.path == address.removeprefix("unix:") * address.startswith("unix:")


@pytest.mark.parametrize(
    ("address", "authority"),
    [
        ("a:80", "a"),
        ("a:443", "a:443"),
        ("https://a", "a"),
        ("https://[::1]:80", "[::1]:80"),
        ("unix:/a", "localhost"),
    ],
)
def test_the_authority_of_an_endpoint(address: str, authority: str) -> None:
    found = service(backend=address)
    assert found.endpoint(found.backends[0]).authority == authority


@pytest.mark.parametrize("written", [1.3, "1.3", "TLS1.3", "TLSv1.3", "tls13", "TLS 1.3"])
def test_tls_versions(written: object) -> None:
    found = service(tls={"min_version": written}).tls
    assert found is not None and found.min_version == "1.3"


@pytest.mark.parametrize(
    "keys",
    [
        {"tls": {"min_version": "1.1"}},
        {"tls": {"client_key_file": "a"}},
        {"tls": {"insecure_skip_verify": True, "ca_file": "a"}},
        {"host_header": "a\r\nb: c"},
        {"host_header": "a b"},
        {"host_header": ""},
        {"origin": "https://other"},
        {"connect_timeout": 0},
    ],
)
def test_invalid_keys_for_backends(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        service(**keys)


@pytest.mark.parametrize(
    "address",
    [
        "a",
        ":80",
        "a:0",
        "a:80/",
        "a:80/x",
        "http://a/x",
        "ftp://a",
        "a:99999",
        "http://",
        "unix:",
        "unix:a",
    ],
)
def test_invalid_backend_addresses(address: str) -> None:
    with pytest.raises(ValidationError):
        service(backend=address)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hostname": None}, NO_HOST),
        ({"backend": None}, NO_BACKEND),
        ({"upstreams": [{"address": "a:1"}]}, TWO_BACKENDS),
    ],
)
def test_required_keys_of_a_service(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        service(**keys)
    assert message in str(caught.value)


def test_one_value_stands_for_a_list_of_one() -> None:
    found = service(routes=[{"match": {"headers": {"A": "x", "B": ["y", "z"]}}}])
    assert found.routes[0].match.headers == {"A": ["x"], "B": ["y", "z"]}
    with pytest.raises(ValidationError):
        service(routes=[{"match": {"headers": "x"}}])


@pytest.mark.parametrize("name", ["with space", "ü", "x" * 129, "a\n"])
def test_ids_are_short_and_ascii(name: str) -> None:
    with pytest.raises(ValidationError):
        service(id=name)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (
            {"handle": [{"type": "respond", "config": {}}, {"type": "jwt", "config": JWT}]},
            "move jwt before it",
        ),
        (
            {
                "match": {"method": "GET"},
                "handle": [{"type": "cors", "config": {"origins": ["*"]}}],
            },
            "add OPTIONS",
        ),
        ({"match": {"path": "admin"}}, "as in /admin"),
        ({"match": {"path": "/a?b"}}, "conditions on the query"),
        ({"match": {"path": "/a/./b"}}, "matches no request"),
        ({"match": {"headers": {"Connection": "x"}}}, "routes cannot match"),
        ({"handle": [{"type": "rate_limit"}]}, "config"),
    ],
)
def test_routes_that_would_have_another_effect_are_refused(
    route: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        service(routes=[route])
    assert message in str(caught.value)


def test_handlers_after_reverse_proxy_apply_too() -> None:
    handle = [
        {"type": "reverse_proxy"},
        {"type": "ip_allow", "config": {"allowed_ips": ["10.0.0.0/8"]}},
    ]
    cors = {"type": "cors", "config": {"origins": ["*"]}}
    found = service(
        routes=[{"handle": handle}, {"match": {"method": ["get", "options"]}, "handle": [cors]}]
    )
    assert [handler.type for handler in found.routes[0].handle] == ["reverse_proxy", "ip_allow"]


def test_the_security_section_is_read_as_handlers() -> None:
    found = service(
        security={"cors": {"origins": ["https://a"]}, "auth": {"type": "jwt", "config": JWT}}
    )
    assert (
        found.security is not None
        and found.security.auth is not None
        and found.security.cors is not None
    )
    assert found.security.auth.type == "jwt"
    assert found.security.cors.origins == ["https://a"]


def test_rates_of_traffic() -> None:
    assert service(traffic_shaping={"upload_limit": "10MB/s"}).traffic_shaping is not None
    with pytest.raises(ValidationError, match="invalid rate"):
        service(traffic_shaping={"per_ip_limit": "fast"})


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_protocols_that_are_no_http_are_refused(protocol: str) -> None:
    with pytest.raises(ValidationError, match=f"protocol {protocol} is not supported"):
        service(protocol=protocol)


def test_a_tls_version_is_text_or_a_number() -> None:
    with pytest.raises(ValidationError):
        service(tls={"min_version": ["1.3"]})


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("preserve", "app.example.com"),
        ("upstream", "10.0.0.1:8080"),
        ("app.internal:8080", "app.internal:8080"),
    ],
)
def test_the_host_header_of_requests_to_upstreams(header: str, host: str) -> None:
    found = service(host_header=header, backend="10.0.0.1:8080")
    assert found.host_for(found.endpoint(found.backends[0])) == host


@pytest.mark.parametrize(
    ("keys", "redirects"),
    [
        ({"listen_on": "both"}, True),
        ({"listen_on": "https"}, False),
        ({"listen_on": "both", "http_redirect": False}, False),
    ],
)
def test_http_is_redirected_where_both_schemes_are_served(
    keys: dict[str, Any], redirects: bool
) -> None:
    assert service(**keys).redirects is redirects


def test_metrics_may_name_a_service_unless_it_forbids_it() -> None:
    assert service().is_counted
    assert service(monitoring={"metrics_enabled": True}).is_counted
    assert not service(monitoring={"metrics_enabled": False}).is_counted


def test_files_of_the_tls_to_upstreams() -> None:
    assert service().tls_files == ()
    tls = {"client_cert_file": "c", "client_key_file": "k"}
    assert service(tls=tls).tls_files == ("c", "k")
    assert service(tls={**tls, "ca_file": "a"}).tls_files == ("a", "c", "k")


def redirecting(**keys: Any) -> Service:
    return Service.model_validate(
        {"hostname": "www.example.com", "redirect_to": "Example.com", **keys}
    )


@pytest.mark.parametrize(
    ("keys", "location"),
    [
        ({}, "https://example.com{uri}"),
        ({"listen_on": "https"}, "https://example.com{uri}"),
        ({"listen_on": "http"}, "http://example.com{uri}"),
        ({"http_redirect": False}, "//example.com{uri}"),
        ({"redirect_to": "example.com:8443"}, "https://example.com:8443{uri}"),
        ({"redirect_to": "[2001:DB8::1]:8443"}, "https://[2001:db8::1]:8443{uri}"),
        ({"redirect_to": "[2001:DB8::1]"}, "https://[2001:db8::1]{uri}"),
    ],
)
def test_an_alias_is_a_policy_that_every_server_knows(keys: dict[str, Any], location: str) -> None:
    service = redirecting(**keys)
    policy = ServicePolicy.from_service(service, [])
    assert policy is not None
    handler = {"type": "redirect", "config": {"location": location, "status": 308}}
    assert policy.to_json()["routes"] == [{"handle": [handler]}]
    assert ServicePolicy.from_json(policy.to_json()) == policy
    assert service.backends == ()


def test_a_service_with_backends_redirects_nothing() -> None:
    assert service().redirect is None


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"redirect_to": "https://example.com"}, "is a URL"),
        ({"redirect_to": "*.example.com"}, "is a wildcard"),
        ({"redirect_to": "example.com:0"}, "no valid port; write example.com or example.com:8443"),
        ({"redirect_to": "example.com:x"}, "not a host name"),
        ({"backend": "x:1"}, "remove backend"),
        ({"upstreams": [{"address": "x:1"}]}, "remove upstreams"),
        ({"routes": [{}]}, "remove routes"),
    ],
)
def test_an_alias_has_a_target_and_nothing_else(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        redirecting(**keys)


def test_several_host_names() -> None:
    names = ["b.example.com", "*.Apps.example.com", "*", "b.example.com"]
    found = service(hostname=None, hostnames=names)
    assert found.host_names == ("b.example.com", "*.apps.example.com", "*")
    assert found.service_id == "b.example.com"


@pytest.mark.parametrize("key", ["hostname", "hosts"])
def test_one_key_for_all_host_names(key: str) -> None:
    keys: dict[str, Any] = {"hostname": None, key: "a.example.com", "hostnames": ["b.example.com"]}
    if key == "hosts":
        keys["hosts"] = ["a.example.com"]
    with pytest.raises(ValidationError, match=f"{key} and hostnames exclude each other"):
        service(**keys)


def test_a_registration_has_room_for_so_many_host_names() -> None:
    names = [f"{number}.example.com" for number in range(MAX_HOSTS + 1)]
    assert len(service(hostname=None, hostnames=names[1:]).host_names) == MAX_HOSTS
    with pytest.raises(ValidationError, match="257 host names, at most 256 allowed"):
        service(hostname=None, hostnames=names)


@pytest.mark.parametrize(
    ("keys", "host"),
    [
        ({"hostname": "*.apps.example.com", "hosts": ["a.example.com"]}, "a.example.com"),
        ({"hostname": "*.apps.example.com"}, "10.0.0.1"),
        ({"hostname": "*", "host_header": "upstream"}, "10.0.0.1"),
        ({"hostname": "*", "host_header": "app.internal"}, "app.internal"),
    ],
)
def test_a_health_check_asks_for_no_wildcard(keys: dict[str, Any], host: str) -> None:
    found = service(**keys)
    assert found.host_for(found.endpoint(found.backends[0])) == host
