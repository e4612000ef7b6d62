"""Tests of zerotrust.config.key_report."""

from pathlib import Path

import pytest

from zerotrust.config.key_report import keys
from zerotrust.config.load import examine

FOLDER = Path(__file__).parents[2] / "config"


def told(path: Path) -> dict[str, tuple[str, str]]:
    return {key.key: (key.state, key.note) for key in keys(examine(path)[1])}


def test_the_nearest_reason_counts(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        "agent_id: a\nlog_level: loud\nzzz: {inner: 1}\nservices:\n"
        "  - {hostname: a.example.com, hosts: [ok.example.com, '*.*'], tls: ~, serivce: 5}\n"
    )
    assert told(path) == {
        "agent_id": ("applied", ""),
        "log_level": (
            "refused",
            'expected one of debug, info, warn, warning, error, fatal; found "loud"',
        ),
        "zzz.inner": ("without effect", "unknown key, it is ignored"),
        # The service lacks a backend, which is not the fault of the keys that it has.
        "services[0].hostname": ("applied", ""),
        "services[0].hosts": (
            "refused",
            '"*.*": a wildcard must be the whole first label, for example *.lab.example.com,'
            " or * alone",
        ),
        "services[0].tls": ("applied", ""),
        "services[0].serivce": ("without effect", "unknown key, it is ignored"),
    }


def test_keys_of_a_websocket_section_are_renamed(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    websocket = "{enabled: true, max_duration: 8h, idle: 1s}"
    path.write_text(
        f"agent_id: a\nservices: [{{hostname: a.test, backend: 'x:1', websocket: {websocket}}}]\n"
    )
    found = told(path)
    assert {key: found[key] for key in found if "websocket" in key} == {
        "services[0].websocket.enabled": ("renamed", "now services[0].websocket"),
        "services[0].websocket.max_duration": ("renamed", "now services[0].websocket_max_duration"),
        "services[0].websocket.idle": ("without effect", "unknown key, it is ignored"),
    }


def test_keys_are_in_the_order_of_the_file() -> None:
    for path in [*(FOLDER / "valid").glob("*.yaml"), *(FOLDER / "invalid").glob("*.yaml")]:
        places = [(key.line, key.column) for key in keys(examine(path)[1])]
        assert places == sorted(places)


def test_a_file_that_cannot_be_read_has_no_keys(tmp_path: Path) -> None:
    assert told(tmp_path / "no.yaml") == {}


# Keys that files in use have, and what becomes of each

AGENT = """
log_level: DEBUG                                    # renamed: now logging.level
agent:
  id: a                                             # applied
  name: A                                           # without effect: unknown key
  region: eu                                        # without effect: unknown key
  tags: [x]                                         # without effect: unknown key
server:
  address: tunnel.example.com:8443                  # applied
  ca_cert: ca.crt                                   # applied
  cert: a.crt                                       # applied
  key: a.key                                        # applied
logging:
  format: console                                   # applied
  output: stdout                                    # applied
hot_reload:
  enabled: true                                     # applied
  watch_config: true                                # applied
  watch_certs: true                                 # applied
  reload_signal: SIGHUP                             # applied
  debounce_delay: 1s                                # applied
global_middleware:
  - type: headers                                   # applied
    config:
      response:
        set: {X-A: b}                               # applied: global_middleware[0].config.response.set.X-A
health_checks:
  global_settings:
    check_interval: 30s                             # applied
    timeout: 5s                                     # applied
    unhealthy_threshold: 3                          # applied
    healthy_threshold: 2                            # applied
  endpoints:
    - path: /agent/health                           # without effect: unknown key
      response: ok                                  # without effect: unknown key
services:
  - id: web                                         # applied
    name: Web                                       # without effect: it only informs readers
    hostname: web.example.com                       # applied
    hosts: [www.example.com]                        # applied
    protocol: https                                 # applied
    websocket: true                                 # applied
    http_redirect: true                             # applied
    listen_on: both                                 # applied
    timeout: 30s                                    # applied
    tcp_port: 5432                                  # without effect: unknown key
    tls_offload: false                              # without effect: unknown key
    upstreams:
      - address: 10.0.0.1:8443                      # applied
        weight: 100                                 # applied
        max_connections: 10                         # applied
        health_check:
          path: /health                             # applied
          interval: 30s                             # applied
          timeout: 5s                               # applied
          method: GET                               # applied
          headers: {X-Probe: a}                     # applied: services[0].upstreams[0].health_check.headers.X-Probe
          unhealthy_threshold: 3                    # applied
    load_balancing:
      policy: ip_hash                               # applied
      health_check_required: true                   # applied
      session_affinity: true                        # applied
      affinity_duration: 1h                         # applied
      max_connections: 100                          # applied
      timeout: 30s                                  # applied
      keep_alive_timeout: 3s                        # applied
    routes:
      - match:
          path: /*                                  # applied
          method: GET                               # applied
          headers:
            Accept: [json]                          # applied
          query:
            debug: "1"                              # applied
        handle:
          - type: headers                           # applied
            config:
              request:
                set: {X-A: [b]}                     # applied: services[0].routes[0].handle[0].config.request.set.X-A
                add: {X-B: [b]}                     # applied: services[0].routes[0].handle[0].config.request.add.X-B
          - type: rate_limit                        # applied
            config:
              rate: 1000/minute                     # applied
              burst: 50                             # applied
          - type: ip_whitelist                      # applied
            config:
              allowed_ips: [10.0.0.0/8]             # applied
          - type: reverse_proxy                     # applied
    tls:
      ca_file: backends.crt                         # applied
      min_version: "1.3"                            # applied
      cert_file: web.crt                            # refused: caddy.certificates
      key_file: web.key                             # refused: caddy.certificates
      ciphers: [TLS_AES_128_GCM_SHA256]             # refused: Caddy chooses the ciphers
      client_auth: require                          # refused: security.auth
      client_ca_file: clients.crt                   # refused: security.auth
    security:
      cors:
        origins: ["https://a.example"]              # applied
        methods: [GET]                              # applied
        headers: [X-A]                              # applied
      auth:
        type: jwt                                   # applied
        config:
          secret: "0123456789abcdef0123456789abcdef"  # applied
          algorithm: HS256                          # applied
          required_claims: {role: admin}            # applied: services[0].security.auth.config.required_claims.role
    monitoring:
      metrics_enabled: true                         # applied
      logging_format: json                          # without effect: unknown key
      logging_fields: [a]                           # without effect: unknown key
    traffic_shaping:
      upload_limit: 10MB/s                          # applied
      download_limit: 50MB/s                        # applied
      per_ip_limit: 1MB/s                           # applied
"""

SIMPLE = """
version: "1.0"                                      # applied
agent_id: a                                         # applied
services:
  - hostname: a.example.com                         # applied
    backend: 10.0.0.1:80                            # applied
    protocol: http                                  # applied
"""

SERVER = """
log_level: INFO                                     # renamed: now logging.level
server:
  listen_addr: ":8443"                              # applied
  cert_file: s.crt                                  # applied
  key_file: s.key                                   # applied
  ca_file: ca.crt                                   # applied
api:
  listen_addr: localhost:9443                       # applied
logging:
  format: json                                      # applied
  output: stdout                                    # applied
hot_reload:
  enabled: true                                     # applied
  watch_config: true                                # applied
  watch_certs: true                                 # applied
  reload_signal: SIGUSR1                            # applied
  debounce_delay: 1s                                # applied
caddy:
  admin_api: http://localhost:2019                  # without effect
  config_dir: caddy                                 # applied
  storage_dir: store                                # applied
  logging:
    enabled: true                                   # applied
    level: INFO                                     # applied
    format: single_field                            # applied
    output: stdout                                  # applied
    include: [http.log.access]                      # applied
    exclude: [http.log.error]                       # applied
    fields: {}                                      # applied
    sampling_first: 100                             # applied
    sampling_thereafter: 10                         # applied
"""


@pytest.mark.parametrize("text", [AGENT, SIMPLE, SERVER], ids=["agent", "simple", "server"])
def test_the_state_of_each_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    _, source = examine(path)
    found = {key.line: key for key in keys(source)}
    for number, line in enumerate(text.splitlines(), start=1):
        _, comment, expected = line.partition("# ")
        if not comment:
            assert number not in found, f"{line}: has no comment about its state"
            continue
        state, _, note = expected.partition(": ")
        key = found.pop(number)
        assert key.state == state, f"{line}: {key.note}"
        assert note in (key.note if not note.startswith(("services[", "global_")) else key.key), (
            f"{line}: {key}"
        )
    assert found == {}
