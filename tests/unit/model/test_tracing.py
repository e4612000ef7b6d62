"""Tests of zerotrust.model.tracing."""

import pytest
from pydantic import ValidationError

from zerotrust.model.tracing import AgentTracing, Tracing


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://otel.example.com/", "https://otel.example.com/v1/traces"),
        ("https://otel.example.com/otlp/v1/traces", "https://otel.example.com/otlp/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_the_path_is_appended(endpoint: str, url: str) -> None:
    assert Tracing(endpoint=endpoint).url == url


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:4318", "grpc://a:4317", "http://", "http://a:99999", "http://[::1"]
)
def test_other_texts_are_no_endpoint(endpoint: str) -> None:
    with pytest.raises(ValidationError, match=r"write for example http://127\.0\.0\.1:4318"):
        Tracing(endpoint=endpoint)


def test_a_password_in_the_url_is_refused() -> None:
    with pytest.raises(ValidationError, match="OTEL_EXPORTER_OTLP_HEADERS"):
        Tracing(endpoint="https://me:secret@otel.example.com")


def test_only_agents_trust_by_default() -> None:
    assert AgentTracing().trust_traceparent and not Tracing().trust_traceparent
