"""Tests of zerotrust.config.load: the files in tests/config, and text of every kind."""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.support.examples import examples
from zerotrust.config.document import LARGEST
from zerotrust.config.key_report import keys
from zerotrust.config.load import Loaded, check, examine, load_agent, load_server, reload_agent
from zerotrust.errors import ConfigError
from zerotrust.model.access import Access, IdentityProvider, PathRule, Rule, Sessions, User
from zerotrust.model.agent import AgentConfig
from zerotrust.model.condition import Condition
from zerotrust.model.middleware import Handler
from zerotrust.model.server import ServerConfig
from zerotrust.model.strict import Strict

FOLDER = Path(__file__).parents[2] / "config"


def expected(path: Path) -> list[str]:
    sibling = path.with_suffix(".txt")
    return sibling.read_text().splitlines() if sibling.exists() else []


def names(kind: str) -> list[str]:
    return sorted(path.name for path in (FOLDER / kind).glob("*.yaml"))


@pytest.mark.parametrize("name", names("invalid"))
def test_invalid_files_report_every_problem(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER / "invalid")
    problems = check(Path(name))
    assert [f"{problem.severity}: {problem}" for problem in problems] == expected(Path(name))
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    assert errors
    with pytest.raises(ConfigError) as caught:
        load_server(Path(name)) if name.startswith("server") else load_agent(Path(name))
    assert str(caught.value) == "\n".join(errors)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def keys_of(model: type[BaseModel], path: str = "", *, strict: bool = False) -> Iterator[str]:
    """Yield every key of a file, as in "services[].upstreams[].weight".

    With `strict`, yield the keys of strict models (handlers) too.
    """
    for name, field in model.model_fields.items():
        if field.annotation is Any:
            continue
        here = f"{path}.{name}".removeprefix(".")
        yield here
        inner = [m for m in models_in(field.annotation) if strict or not issubclass(m, Strict)]
        if inner == [Condition]:  # server-access.yaml has a wrong value for each of its keys
            continue
        if len(inner) == 1:
            many = "[]" if get_origin(field.annotation) is list else ""
            yield from keys_of(inner[0], here + many, strict=strict)


@pytest.mark.parametrize(
    ("model", "pattern"), [(AgentConfig, "[!s]*.txt"), (ServerConfig, "server*.txt")]
)
def test_each_key_has_a_wrong_value_and_its_message(model: type[BaseModel], pattern: str) -> None:
    lines = "".join(path.read_text() for path in (FOLDER / "invalid").glob(pattern))
    if model is AgentConfig:
        lines += (FOLDER / "invalid" / "service-keys.txt").read_text()
    refused = {
        re.sub(r"\[\d+\]", "[]", key)
        for key in re.findall(r"^error: \S+: ([\w.\[\]]+): ", lines, re.MULTILINE)
    }
    refused |= {key.removesuffix("[]") for key in refused}
    assert [key for key in keys_of(model) if key not in refused] == []


def test_each_key_of_access_has_a_wrong_value_and_its_message() -> None:
    lines = (FOLDER / "invalid" / "server-access.txt").read_text()
    paths = re.findall(r"^error: \S+: (access\.[\w.\[\]]+): ", lines, re.MULTILINE)
    written = {key for path in paths for key in re.findall(r"[a-z_]+", path)}
    for model in (Access, Rule, PathRule, Condition, User, IdentityProvider, Sessions):
        assert not model.model_fields.keys() - written, model


def test_each_key_of_a_handler_has_a_wrong_value_and_its_message() -> None:
    lines = (FOLDER / "invalid" / "handlers.txt").read_text()
    file = yaml.safe_load((FOLDER / "invalid" / "handlers.yaml").read_text())
    handlers = file["services"][0]["routes"][0]["handle"]
    refused: defaultdict[str, set[str]] = defaultdict(set)
    for index, key in re.findall(r"handle\[(\d+)\]\.config\.([\w.]+)", lines):
        refused[handlers[int(index)]["type"]] |= {
            key,
            key.split(".")[0],
            ".".join(key.split(".")[:2]),
        }
    for kind in models_in(Handler):
        for options in models_in(kind.model_fields["config"].annotation):
            name, *_ = get_args(kind.model_fields["type"].annotation)
            assert [
                key for key in keys_of(options, strict=True) if key not in refused[name]
            ] == [], name


def write_secrets(file: Path) -> None:
    """Write the clients' secrets that a configuration names, beside it."""
    for secret in re.findall(r"client_secret_file: ([\w.]+)", file.read_text()):
        file.with_name(secret).write_text("secret")
        file.with_name(secret).chmod(0o600)


@pytest.mark.parametrize("name", names("valid"))
def test_valid_files_load_with_the_expected_warnings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FOLDER / "valid", tmp_path, dirs_exist_ok=True)
    write_secrets(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    problems = check(Path(name))
    assert [f"{problem.severity}: {problem}" for problem in problems] == expected(Path(name))
    loaded = load_server(Path(name)) if name.startswith("server") else load_agent(Path(name))
    assert list(loaded.warnings) == problems


# Keys of these files that nothing here acts on.
WITHOUT_MEANING = {
    "agent.name",
    "agent.region",
    "agent.tags",
    "health_checks.endpoints[].path",
    "health_checks.endpoints[].response",
    "services[].monitoring.logging_fields",
    "services[].monitoring.logging_format",
}
ORIGINALS = sorted((FOLDER / "original").glob("*.yaml"))


@pytest.mark.parametrize("path", ORIGINALS, ids=lambda path: path.name)
def test_agent_files_in_use_load_and_keys_without_meaning_are_reported(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JWT_SECRET", "a secret of at least thirty-two bytes")
    _, source = examine(path)
    assert source.errors == []
    assert isinstance(load_agent(path), Loaded)
    fates = keys(source)
    assert {key.state for key in fates} <= {"applied", "renamed", "without effect"}
    unknown = {
        re.sub(r"\[\d+\]", "[]", key.key) for key in fates if key.note.startswith("unknown key")
    }
    assert unknown <= WITHOUT_MEANING


def agent(tmp_path: Path, text: str, **overrides: str) -> Loaded[AgentConfig]:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    return load_agent(
        path, overrides={key.replace("__", "."): value for key, value in overrides.items()}
    )


def test_numbers_keep_their_spelling_where_text_is_expected() -> None:
    config = load_agent(FOLDER / "valid" / "agent-full.yaml").config
    assert config.agent.id == "007"
    health = config.services[0].upstreams[0].health_check
    assert health is not None
    assert health.headers == {"X-Probe": "1"}
    assert health.path == "/health"
    assert config.services[0].routes[0].match.headers == {"Accept": ["json"]}
    assert config.services[0].routes[1].match.headers == {"X-Version": ["1"]}
    assert config.services[1].host_names == ("xn--tda.example.com",)
    assert config.services[1].tls is None
    assert config.logging.level == "debug"


def test_file_names_are_relative_to_the_file() -> None:
    folder = FOLDER / "valid"
    config = load_agent(folder / "agent-full.yaml").config
    assert config.server.ca_cert == str(folder / "certs/ca.crt")
    assert config.server.key == "/etc/keys/agent.key"
    server = load_server(folder / "server-small.yaml").config
    assert server.server.cert_file == str(folder / "certs/server.crt")
    assert server.caddy.config_dir == "/config/caddy"


def test_file_names_are_absolute_even_for_a_relative_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER / "valid")
    assert load_agent(Path("agent-full.yaml")).config.server.cert == str(
        Path.cwd() / "certs/agent.crt"
    )


def test_logging_level_wins_over_log_level(tmp_path: Path) -> None:
    assert (
        agent(
            tmp_path, "services: []\nlog_level: debug\nlogging: {level: error}"
        ).config.logging.level
        == "error"
    )
    assert (
        agent(tmp_path, "services: []\nlog_level: debug\nlogging:").config.logging.level == "debug"
    )


def test_an_agent_without_services_is_warned_about(tmp_path: Path) -> None:
    loaded = agent(tmp_path, "agent_id: a")
    assert [str(warning) for warning in loaded.warnings] == [
        f"{tmp_path}/agent.yaml:1:1: services: no services: this agent publishes nothing"
    ]


def test_the_command_line_wins_and_is_checked(tmp_path: Path) -> None:
    config = agent(
        tmp_path, "agent_id: a", server__address="x:1", agent__id="b", logging__level="WARN"
    ).config
    assert (config.server.address, config.declared_id, config.logging.level) == ("x:1", "b", "warn")
    with pytest.raises(ConfigError) as caught:
        agent(tmp_path, "agent_id: a\nlogging: {level: silent}", logging__level="loud")
    assert (
        str(caught.value)
        == "command line: logging.level: expected one of debug, info, warn, warning, error, fatal;"
        ' found "loud"'
    )
    with pytest.raises(ConfigError, match="server: expected keys and values"):
        agent(tmp_path, "agent_id: a\nserver: 5", server__address="x:1")


def test_a_file_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is the configuration of a server, not of an agent"):
        load_agent(FOLDER / "valid" / "server-full.yaml")
    with pytest.raises(ConfigError, match="this is the configuration of an agent, not of a server"):
        load_server(REFERENCE / "simple.yaml")


def test_the_kind_shows_in_the_server_section_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("server: {listen_addr: ':8443'}")
    assert check(path) == []
    path.write_text("server: {address: 'x:8443'}")
    assert [problem.severity for problem in check(path)] == ["warning"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def messages(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load_agent(path)
        assert [str(problem) for problem in check(path)] == [str(caught.value)]
        return str(caught.value).removeprefix(f"{path}: ")

    assert (
        messages(tmp_path / "no.yaml") == "no such file; name the configuration with --config FILE"
    )
    assert messages(tmp_path) == "is a folder; name a file"
    (tmp_path / "file").write_text("")
    assert (
        messages(tmp_path / "file" / "x")
        == "cannot be read: Not a directory; correct the path or the permissions"
    )
    assert (
        messages(tmp_path / "a\0b")
        == "cannot be read: embedded null byte; correct the path or the permissions"
    )
    (tmp_path / "large").write_bytes(b"#" * (LARGEST + 1))
    assert messages(tmp_path / "large") == "larger than 4 MiB; check that this is the right file"


def test_a_file_of_neither_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("logging: {level: info}")
    assert [str(problem) for problem in check(path)] == [
        f"{path}: unknown kind of file: expected keys of a server (api, caddy, access) "
        "or of an agent (agent_id, services)"
    ]


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"\xef\xbb\xbfagent_id: a\n")
    assert load_agent(path).config.declared_id == "a"


KEYS = st.sampled_from(
    [
        "agent_id",
        "services",
        "server",
        "api",
        "caddy",
        "logging",
        "log_level",
        "hot_reload",
        "global_middleware",
        "health_checks",
        "id",
        "hostname",
        "hosts",
        "backend",
        "upstreams",
        "address",
        "routes",
        "match",
        "handle",
        "type",
        "config",
        "security",
        "tls",
        "load_balancing",
        "policy",
        "listen_on",
        "level",
        "client_auth",
        "traffic_shaping",
        "health_check",
        "weight",
        "timeout",
        "http_redirect",
        "acme",
        "<<",
        "nonsense",
    ]
)
SCALARS = st.sampled_from(
    [
        "~",
        "true",
        "no",
        "1",
        "-1",
        ".nan",
        "1e999",
        "0x1F",
        "007",
        "a.example.com",
        "10.0.0.1:80",
        "[::1]:80",
        "http",
        "''",
        "30s",
        "*",
        "/x",
        "jwt",
        "debug",
        "[]",
        "{}",
        "*x",
        "&x",
        "!!str",
        "${NO}",
        "'${NO:-1}'",
        "'${'",
    ]
) | st.text(max_size=8)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
        | st.dictionaries(KEYS, inner, max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}"
        )
    ),
    max_leaves=12,
)
ROOTS = st.dictionaries(KEYS, TREES, max_size=5).map(
    lambda pairs: "\n".join(f"{key}: {value}" for key, value in pairs.items())
)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(300))
@given(text=ROOTS | st.text(max_size=60) | st.text("-:{}[]&*!|>'\"%@`# \n\tab1<", max_size=40))
def test_any_text_either_loads_or_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for load in (load_agent, load_server):
        try:
            load(path)
        except ConfigError as error:
            assert str(error)
            assert all(line.startswith(str(path)) for line in str(error).splitlines())
    for problem in check(path):
        assert "\n" not in str(problem)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60))
def test_any_bytes_either_load_or_are_refused_in_words(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(data)
    try:
        load_agent(path)
    except ConfigError as error:
        assert str(error)


GOOD = """
agent_id: a
services:
  - {id: one, hostname: one.example.com, backend: "x:1"}
  - {id: two, hostname: two.example.com, backend: "x:2"}
  - {id: three, hostname: three.example.com, backend: "x:3"}
"""


def reloaded(tmp_path: Path, *changes: tuple[str, str]) -> Loaded[AgentConfig]:
    path = tmp_path / "agent.yaml"
    path.write_text(GOOD)
    last = load_agent(path).config
    text = GOOD
    for change in changes:
        text = text.replace(*change)
    path.write_text(text)
    return reload_agent(path, last)


def backends(config: AgentConfig) -> dict[str, str | None]:
    return {service.service_id: service.backend for service in config.services}


def test_a_service_that_is_wrong_keeps_its_last_good_version(tmp_path: Path) -> None:
    loaded = reloaded(
        tmp_path,
        ('two.example.com, backend: "x:2"', 'two.example.com, backend: "x", websocket: maybe'),
    )
    assert backends(loaded.config) == {"one": "x:1", "three": "x:3", "two": "x:2"}
    assert [problem.key for problem in loaded.refused] == [
        "services[1].backend",
        "services[1].websocket",
    ]


def test_a_section_of_websocket_behind_a_wrong_service_is_read(tmp_path: Path) -> None:
    section = 'backend: "x:3", websocket: {enabled: no, idle_timeout: 30s, max_duraton: 1h}'
    loaded = reloaded(tmp_path, ('backend: "x:1"', 'backend: "x"'), ('backend: "x:3"', section))
    three = next(service for service in loaded.config.services if service.service_id == "three")
    assert (three.websocket, three.websocket_idle_timeout, three.websocket_max_duration) == (
        False,
        30.0,
        0.0,
    )
    assert [problem.key for problem in loaded.warnings] == ["services[2].websocket.max_duraton"]
    assert all(problem.line == 6 for problem in loaded.warnings)


def test_valid_changes_apply_next_to_errors(tmp_path: Path) -> None:
    text = (
        GOOD.replace("x:3", "y:3")
        .replace("x:1", "nothing")
        .replace("two, hostname: two", "four, hostname: four")
    )
    loaded = reloaded(tmp_path, (GOOD, text))
    assert backends(loaded.config) == {"four": "x:2", "three": "y:3", "one": "x:1", "two": "x:2"}


def test_no_service_is_removed_while_the_file_has_an_error(tmp_path: Path) -> None:
    loaded = reloaded(tmp_path, (GOOD, GOOD[: GOOD.index(', backend: "x:2"')] + "}\n"))
    assert backends(loaded.config) == {"one": "x:1", "two": "x:2", "three": "x:3"}
    loaded = reloaded(tmp_path, (GOOD, GOOD[: GOOD.index("  - {id: two")]))
    assert backends(loaded.config) == {"one": "x:1"}
    assert loaded.refused == ()


def test_an_error_after_a_wrong_service_has_its_own_line(tmp_path: Path) -> None:
    change = ('one.example.com, backend: "x:1"}', "one.example.com}")
    path = tmp_path / "agent.yaml"
    path.write_text(GOOD)
    last = load_agent(path).config
    path.write_text(GOOD.replace(*change).replace("id: three", "id: 007, wbesocket: true"))
    loaded = reload_agent(path, last)
    assert [str(warning) for warning in loaded.warnings] == [
        f'{path}:6:15: services[2].wbesocket: unknown key, did you mean "websocket"?'
    ]
    assert set(backends(loaded.config)) == {"007", "one", "two"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("agent_id: a", "agent_id: [a]"), "expected text"),
        (("services:", "services: {"), "not valid YAML"),
        (("agent_id: a", "logging: {level: loud}"), "expected one of"),
        ((GOOD, ""), "is empty"),
        (('{id: three, hostname: three.example.com, backend: "x:3"}', "three"), None),
    ],
)
def test_an_error_outside_of_services_refuses_the_file(
    tmp_path: Path, change: tuple[str, str], reason: str | None
) -> None:
    if reason is None:
        assert set(backends(reloaded(tmp_path, change).config)) == {"one", "two", "three"}
        return
    with pytest.raises(ConfigError, match=reason):
        reloaded(tmp_path, change)


def test_old_and_new_services_must_not_contradict(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(GOOD.replace("id: one,", "id: one, hosts: [1.example.com],"))
    last = load_agent(path).config
    path.write_text(
        GOOD.replace(
            'hostname: one.example.com, backend: "x:1"', "hostname: 1.example.com"
        ).replace("three.", "one.")
    )
    with pytest.raises(
        ConfigError,
        match=(
            r'(?s)needs a backend.*\nthe last good service "one" stays and still needs one\.example'
        ),
    ):
        reload_agent(path, last)


def test_values_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "a.example.com")
    monkeypatch.setenv("WS", "false")
    monkeypatch.setenv("ID", "007")
    text = """
agent_id: ${ID}
services:
  - hostname: ${HOST}
    websocket: ${WS}
    timeout: ${WAIT:-90s}
    upstreams: [{address: 'x:${PORT:-1}', weight: "${W:-5}"}]
"""
    config = agent(tmp_path, text).config
    service = config.services[0]
    assert (config.agent_id, service.websocket, service.timeout) == ("007", False, 90)
    assert (service.upstreams[0].address, service.upstreams[0].weight) == ("x:1", 5)
    with pytest.raises(ConfigError) as caught:
        agent(tmp_path, text.replace("${W:-5}", "${W}").replace("${WS}", "${HOST}"))
    path = tmp_path / "agent.yaml"
    assert str(caught.value).splitlines() == [
        f'{path}:5:16: services[0].websocket: expected true or false, found "a.example.com"',
        (
            f"{path}:7:51: services[0].upstreams[0].weight: the environment variable W is not set;"
            " set it or add a default: ${W:-default}"
        ),
    ]


ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "examples" / "reference"
TWO_SERVERS = ROOT / "examples" / "two-servers"
EXAMPLES = sorted(
    path
    for path in (ROOT / "examples").iterdir()
    if path.is_dir() and path not in (REFERENCE, TWO_SERVERS)
)


PAGES = {"access-home": "sign-in-home", "access-company": "sign-in-company"}
"""Pages that have another name than their example."""


def test_there_are_seven_examples() -> None:
    assert len(EXAMPLES) == 7


@pytest.mark.parametrize("name", ["full.yaml", "pihole.yaml", "simple.yaml"])
def test_the_files_of_the_reference_document_load_without_a_warning(name: str) -> None:
    assert check(REFERENCE / name) == []
    assert load_agent(REFERENCE / name).config.services[0].host_names == ("pihole.example.com",)
    assert "(../../examples/reference)" in (ROOT / "docs" / "howto" / "README.md").read_text()


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_the_examples_load_and_have_a_page(folder: Path, tmp_path: Path) -> None:
    write_secrets(Path(shutil.copy(folder / "server.yaml", tmp_path)))
    config = load_agent(folder / "agent.yaml").config
    assert Path(config.server.cert).name == "agent.crt"
    assert load_server(tmp_path / "server.yaml").warnings == ()
    name = PAGES.get(folder.name, folder.name)
    page = (ROOT / "docs" / "howto" / f"{name}.md").read_text()
    assert f"examples/{folder.name}" in page
    assert f"`{config.declared_id}`" in page
    assert f"({name}.md)" in (ROOT / "docs" / "howto" / "README.md").read_text()


@pytest.mark.parametrize("number", [1, 2])
def test_the_example_with_two_servers_loads(number: int, tmp_path: Path) -> None:
    (url := tmp_path / "database-url").touch(0o600)
    url.write_text("postgresql://zerotrust@database/zerotrust")
    file = Path(shutil.copy(TWO_SERVERS / f"server-{number}" / "server.yaml", tmp_path))
    loaded = load_server(file)
    assert loaded.warnings == ()
    assert loaded.config.server.member_addr == f"server-{number}.example.com:8443"
    agent = load_agent(TWO_SERVERS / f"agent-{number}" / "agent.yaml").config
    assert agent.declared_id == f"agent-{number}"


VARIABLES = ("ZERO_TRUST_SERVER", "SERVER_ADDRESS", "SERVER_PORT")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", "env.example:1"),
        ("server:", "env.example:1"),
        ("server: {address: }", "env.example:1"),
        ("server: {ca_cert: ca.crt}", "env.example:1"),
        ("server: {address: file.example}", "file.example"),
    ],
)
def test_the_environment_names_the_server_if_the_file_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, address: str
) -> None:
    monkeypatch.setenv("ZERO_TRUST_SERVER", "env.example:1")
    config = agent(tmp_path, f"agent_id: a\nservices: []\n{text}\n").config
    assert config.server.address == address
    assert (
        agent(tmp_path, f"agent_id: a\n{text}\n", server__address="line:2").config.server.address
        == "line:2"
    )


def test_an_invalid_variable_is_reported_as_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_PORT", "many")
    with pytest.raises(
        ConfigError, match=r'^environment: server\.address: "localhost:many" has no valid port'
    ):
        agent(tmp_path, "agent_id: a\n")
    with pytest.raises(ConfigError, match=r"agent\.yaml:2:9: server: expected keys and values"):
        agent(tmp_path, "agent_id: a\nserver: 5\n")


def test_a_server_ignores_variables_of_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "nowhere:x")
    path = tmp_path / "server.yaml"
    path.write_text("api:\n")
    assert load_server(path).warnings == ()


def test_variables_do_not_replace_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZERO_TRUST_SERVER", "env.example:1")
    with pytest.raises(
        ConfigError, match="no such file; name the configuration with --config FILE"
    ):
        load_agent(tmp_path / "agent.yaml")
    assert not (tmp_path / "agent.yaml").exists()


def test_a_value_with_an_unset_variable_is_not_validated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "agent_id: a\nservices:\n  - hostname: a.test\n    backend: a:1\n    security:\n     "
        " auth:\n"
    )
    text += '        type: jwt\n        config: {algorithm: HS256, secret: "${TOO_SECRET}"}\n'
    monkeypatch.delenv("TOO_SECRET", raising=False)
    with pytest.raises(ConfigError) as caught:
        agent(tmp_path, text)
    assert str(caught.value).count("\n") == 0
    assert "TOO_SECRET is not set" in str(caught.value)
    monkeypatch.setenv("TOO_SECRET", "short")
    with pytest.raises(ConfigError, match="at least 32 bytes"):
        agent(tmp_path, text)
