"""Loader of configuration files: text to validated models.

It finds all problems of a file in one run. Errors raise one `ConfigError` with a line each;
warnings are returned with the configuration.

The steps, in order: text (`yaml_text`), variables (`environment`), older spellings (`legacy`),
unknown keys (`unknown_keys`), keys without effect (`ineffective_keys`), contradictions (`check`),
models (`error_messages` words their errors), spellings of paths (`path_spellings`), and the
contents of files (`secret_files`).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

from pydantic import ValidationError

from zerotrust.config import (
    access_checks,
    environment,
    error_messages,
    folders,
    ineffective_keys,
    legacy,
    path_spellings,
    paths,
    secret_files,
    unknown_keys,
)
from zerotrust.config import check as checks
from zerotrust.config.diagnostics import DOES_NOTHING, KeyPath, Problem, Severity, sort_problems
from zerotrust.config.document import ENVIRONMENT, Source
from zerotrust.config.file_contents import FileContents
from zerotrust.errors import ConfigError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import Model
from zerotrust.model.database import DatabaseConfig
from zerotrust.model.logging import LEVELS
from zerotrust.model.server import ServerConfig
from zerotrust.model.service import Service

Config = TypeVar("Config", bound=Model)
Kind = Literal["server", "agent"]
Finding = tuple[KeyPath, Severity, str]

MODELS: Final[Mapping[Kind, type[Model]]] = {"server": ServerConfig, "agent": AgentConfig}

_PRIVATE_KEYS: Final[Mapping[Kind, tuple[tuple[str, str], ...]]] = {
    "server": (("server", "key_file"), ("authority", "key_file")),
    "agent": (("server", "key"),),
}
_SERVER_KEYS: Final = {"api", "caddy", "access"}
_AGENT_KEYS: Final = {"agent", "agent_id", "services", "global_middleware", "health_checks"}
_SERVER_SECTION: Final = {"listen_addr", "cert_file", "key_file", "ca_file"}
_AGENT_SECTION: Final = {"address", "server_name", "ca_cert", "cert", "key"}
_ARTICLE: Final[dict[Kind, str]] = {"server": "a server", "agent": "an agent"}


@dataclass(frozen=True)
class Loaded(Generic[Config]):
    """A valid configuration with its warnings.

    `files` are the files that it was read from, the configuration file first. `contents` are those
    of these files, by path; they may be secret. `refused` are the errors in services that keep
    their last good version (see `reload_agent`).
    """

    config: Config
    warnings: tuple[Problem, ...]
    files: tuple[Path, ...] = ()
    refused: tuple[Problem, ...] = ()
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def load_server(
    path: Path,
    *,
    overrides: Mapping[str, str] | None = None,
    contents: Mapping[str, bytes] | None = None,
) -> Loaded[ServerConfig]:
    """Return the server's configuration.

    `overrides` are values from the command line, by key ("api.listen_addr"). Files in `contents`
    are not read: these are their contents.

    Raises:
        ConfigError: the file has errors, one line each.
    """
    return _load(_source(path, overrides, contents), "server", ServerConfig)


def load_agent(path: Path, *, overrides: Mapping[str, str] | None = None) -> Loaded[AgentConfig]:
    """Return the agent's configuration; see `load_server`.

    Raises:
        ConfigError: the file has errors, one line each.
    """
    return _load(_source(path, overrides), "agent", AgentConfig)


def reload_agent(
    path: Path, last: AgentConfig, *, overrides: Mapping[str, str] | None = None
) -> Loaded[AgentConfig]:
    """Return the agent's configuration; a service with an error keeps its version in `last`.

    While the file has an error, no service is removed either: its entry may be misspelt, or the
    file may be incomplete because it is still being written.

    Raises:
        ConfigError: an error outside of services, or old and new services contradict each other.
    """
    source = _source(path, overrides)
    try:
        return _load(source, "agent", AgentConfig)
    except ConfigError:
        refused = sort_problems(source.errors)
        if not refused or not all(
            problem.path[:1] == ("services",) and problem.path[1:] for problem in refused
        ):
            raise
    rest = _source(path, overrides)
    rest.remove_items(
        "services", {index for problem in refused if isinstance(index := problem.path[1], int)}
    )
    loaded = _load(rest, "agent", AgentConfig)
    services = loaded.config.services
    kept = list(_kept(services, last.services, refused))
    config = loaded.config.model_copy(update={"services": [*services, *kept]})
    return Loaded(config, loaded.warnings, loaded.files, tuple(refused))


def _kept(new: list[Service], last: list[Service], refused: list[Problem]) -> Iterator[Service]:
    """Yield the services of `last` that `new` does not replace.

    A service is replaced by one with its id, or by services with all its host names.
    """
    ids = {service.service_id for service in new}
    taken = {host for service in new for host in service.host_names}
    for service in last:
        moved = taken & set(service.host_names)
        if service.service_id in ids or len(moved) == len(service.host_names):
            continue
        if moved:
            reasons = "\n".join(map(str, refused))
            raise ConfigError(
                f'{reasons}\nthe last good service "{service.service_id}" stays and still needs'
                f" {min(moved)}"
            )
        yield service


def check(path: Path) -> list[Problem]:
    """Return every error and warning of a server's or agent's file."""
    return inspect(path)[1]


def inspect(path: Path) -> tuple[Kind | None, list[Problem]]:
    """Return the kind of a file, and its errors and warnings."""
    kind, source = examine(path)
    return kind, sort_problems(source.problems)


def examine(path: Path) -> tuple[Kind | None, Source]:
    """Return the kind of a file, and the file with everything found out about it."""
    source = _source(path, None)
    kind = _kind(source.data) if source.usable else None
    if source.usable and kind is None:
        source.report(
            (),
            "error",
            "unknown kind of file: expected keys of a server (api, caddy, access) or of an agent"
            " (agent_id, services)",
        )
    elif kind is not None:
        _examine(source, kind, MODELS[kind])
    return kind, source


def _source(
    path: Path,
    overrides: Mapping[str, str] | None,
    contents: Mapping[str, bytes] | None = None,
) -> Source:
    return Source(
        path,
        overrides=overrides or {},
        variables=os.environ,
        contents=FileContents(contents),
    )


def _load(source: Source, kind: Kind, model: type[Config]) -> Loaded[Config]:
    other = _kind(source.data)
    if source.usable and other not in (None, kind):
        source.report(
            (),
            "error",
            f"this is the configuration of {_ARTICLE[other or kind]}, not of {_ARTICLE[kind]}",
        )
    found = _examine(source, kind, model) if source.usable else None
    problems = sort_problems(source.problems)
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    if errors or found is None:
        raise ConfigError("\n".join(errors))
    config, files = found
    return Loaded(config, tuple(problems), (source.path, *files), contents=source.contents.found)


def _kind(data: Any) -> Kind | None:
    """Return the kind of a file, from keys that only one kind has."""
    if not isinstance(data, dict):
        return None
    section = set(ineffective_keys.section(data, "server"))
    server = len(_SERVER_KEYS & set(data)) + len(_SERVER_SECTION & section)
    agent = len(_AGENT_KEYS & set(data)) + len(_AGENT_SECTION & section)
    if server == agent:
        return None
    return "server" if server > agent else "agent"


def _examine(source: Source, kind: Kind, model: type[Config]) -> tuple[Config, list[Path]] | None:
    data = source.data
    legacy.rename_level(source)
    if kind == "server":
        legacy.restrict_api_to_loopback(source)
    else:
        legacy.flatten_websocket(source)
        source.ineffective.update(
            (source.path_in_file(path), ineffective_keys.FOR_PEOPLE)
            for path in ineffective_keys.for_people(data)
        )
    for path, severity, message in unknown_keys.unknown_keys(model, data):
        source.report(path, severity, message, at_key=True, ineffective=severity == "warning")
    if kind == "server":
        for path, severity, message in access_checks.empty_section(data):
            source.report(path, severity, message, at_key=True)
    for path, severity, message in _checks_before_models(source, kind):
        source.report(
            path, severity, message, ineffective=severity == "warning" and DOES_NOTHING in message
        )
    if kind == "agent":
        _server_from_environment(source)
    usable = ineffective_keys.without_nulls(data)
    _level_from_environment(usable)
    if kind == "server" and isinstance(state := usable.setdefault("state", {}), dict):
        state.setdefault("dir", DatabaseConfig().dir)
    paths.resolve(usable, source.path.absolute().parent)
    config = _validate(source, usable, model)
    if config is None:
        return None
    for path, severity, message in _checks_after_models(source, config, kind):
        source.report(path, severity, message)
    return secret_files.inline_files(source, config)


def _checks_before_models(source: Source, kind: Kind) -> Iterator[Finding]:
    if kind == "server":
        yield from ineffective_keys.server_effects(source.data)
    else:
        yield from ineffective_keys.agent_effects(source.data)
        yield from checks.contradictions(source.document)
        yield from access_checks.services_in_the_clear(source.data)


def _checks_after_models(source: Source, config: Model, kind: Kind) -> Iterator[Finding]:
    for path in _PRIVATE_KEYS[kind]:
        key = getattr(getattr(config, path[0]), path[1])
        if key and (warning := folders.key_warning(Path(key))) is not None:
            yield path, "warning", warning
    if isinstance(config, ServerConfig):
        yield from access_checks.access_problems(config, source.document)
    if isinstance(config, AgentConfig):
        yield from checks.costly_policies(config)
        yield from path_spellings.half_protected_paths(config)


def _server_from_environment(source: Source) -> None:
    address = environment.server_address(os.environ)
    server = source.data.get("server") or {}
    if address is not None and isinstance(server, dict) and server.get("address") is None:
        source.override("server.address", address, by=ENVIRONMENT)


def _level_from_environment(data: dict[str, Any]) -> None:
    """Set the log level from `LOG_LEVEL` if the file does not set it."""
    level = os.environ.get("LOG_LEVEL", "").lower()
    logging = data.setdefault("logging", {})
    if level in LEVELS and isinstance(logging, dict):
        logging.setdefault("level", level)


def _validate(source: Source, data: dict[str, Any], model: type[Config]) -> Config | None:
    for last in (False, True):
        try:
            return model.model_validate(data)
        except ValidationError as error:
            errors = error_messages.plain_errors(error, data)
        changed = [
            _use_spelling(source, data, path) for path, kind, _ in errors if kind == "string_type"
        ]
        if last or not any(changed):
            break
    for path, kind, message in errors:
        written = source.path_in_file(path)
        if kind == "value_error" and any(
            at[: len(written)] == written for at in source.document.unresolved
        ):
            continue  # the value still contains a variable that is not set
        source.report(path, "error", message, at_key=kind == "extra_forbidden")
    return None


def _use_spelling(source: Source, data: Any, path: KeyPath) -> bool:
    """Replace a number or boolean by its spelling where text is expected: `id: 007` is "007"."""
    place = source.document.places.get(source.path_in_file(path))
    if not path or place is None or place.text is None:
        return False
    for step in path[:-1]:
        data = data[step]
    if not isinstance(data[path[-1]], (int, float)):
        return False
    data[path[-1]] = place.text
    return True
