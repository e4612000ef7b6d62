"""Configuration files: read, checked whole, and made into models.

Every problem of a file is found in one go. Errors raise one `ConfigError` with a line for each; warnings travel with
the configuration, for the face to show.

The stations: text (`yaml_text`), models (`wording` puts their objections into words), unknown keys (`unknown`), keys
without effect (`effects`), contradictions (`check`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

from pydantic import ValidationError

from zerotrust.config import check as checks
from zerotrust.config import effects, paths, unknown, wording, yaml_text
from zerotrust.config.problems import KeyPath, Problem, Severity, dotted, in_order
from zerotrust.errors import ConfigError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import Model
from zerotrust.model.server import ServerConfig

Config = TypeVar("Config", bound=Model)
Kind = Literal["server", "agent"]
Finding = tuple[KeyPath, Severity, str]

LARGEST: Final = 4 * 1024 * 1024
COMMAND_LINE: Final = "command line"

_SERVER_KEYS: Final = {"api", "caddy"}
_AGENT_KEYS: Final = {"agent", "agent_id", "services", "global_middleware", "health_checks"}
_SERVER_SECTION: Final = {"listen_addr", "cert_file", "key_file", "ca_file"}
_AGENT_SECTION: Final = {"address", "server_name", "ca_cert", "cert", "key"}


@dataclass(frozen=True)
class Loaded(Generic[Config]):
    """A configuration that can be used, and what its owner should know about it."""

    config: Config
    warnings: tuple[Problem, ...]


def load_server(path: Path, *, overrides: Mapping[str, str] | None = None) -> Loaded[ServerConfig]:
    """The server's configuration. `overrides` are values of the command line by key, as in "api.listen_addr".

    Raises:
        ConfigError: the file cannot be used; one line per problem.
    """
    return _load(_File(path, overrides or {}), "server", ServerConfig)


def load_agent(path: Path, *, overrides: Mapping[str, str] | None = None) -> Loaded[AgentConfig]:
    """The agent's configuration; see `load_server`.

    Raises:
        ConfigError: the file cannot be used; one line per problem.
    """
    return _load(_File(path, overrides or {}), "agent", AgentConfig)


def check(path: Path) -> list[Problem]:
    """Every error and warning of a file, whichever of the two kinds it is."""
    return inspect(path)[1]


def inspect(path: Path) -> tuple[Kind | None, list[Problem]]:
    """What a file is, and every error and warning in it."""
    file = _File(path, {})
    kind = _kind(file.document.data) if file.usable else None
    if file.usable and kind is None:
        file.say((), "error", "neither a server's file (server, api, caddy) nor an agent's (agent_id, services)")
    elif kind is not None:
        _examine(file, kind, ServerConfig if kind == "server" else AgentConfig)
    return kind, in_order(file.problems)


def _load(file: "_File", kind: Kind, model: type[Config]) -> Loaded[Config]:
    other = _kind(file.document.data)
    if file.usable and other not in (None, kind):
        file.say((), "error", f"this is the configuration of {_ARTICLE[other or kind]}, not of {_ARTICLE[kind]}")
    config = _examine(file, kind, model) if file.usable else None
    problems = in_order(file.problems)
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    if errors or config is None:
        raise ConfigError("\n".join(errors))
    return Loaded(config, tuple(problems))


_ARTICLE: Final[dict[Kind, str]] = {"server": "a server", "agent": "an agent"}


def _kind(data: Any) -> Kind | None:
    """Whose file this is, by the keys that only one of the two has."""
    if not isinstance(data, dict):
        return None
    section = set(effects.section(data, "server"))
    server = len(_SERVER_KEYS & set(data)) + len(_SERVER_SECTION & section)
    agent = len(_AGENT_KEYS & set(data)) + len(_AGENT_SECTION & section)
    if server == agent:
        return None
    return "server" if server > agent else "agent"


class _File:
    """A file under examination: its document and what was found wrong so far."""

    def __init__(self, path: Path, overrides: Mapping[str, str]) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.overridden: set[KeyPath] = set()
        self.document = yaml_text.Document()
        text = self._read()
        if text is None:
            return
        self.document = yaml_text.parse(text)
        for at, key, message in self.document.faults:
            self.problems.append(Problem(str(path), *at, dotted(key), message))
        if not self.problems:
            self._refuse_shapeless(text)
        if self.usable:
            self._override(overrides)

    @property
    def usable(self) -> bool:
        """True where there is a mapping to look into."""
        return isinstance(self.document.data, dict)

    def say(self, path: KeyPath, severity: Severity, message: str, *, at_key: bool = False) -> None:
        """Add a problem at the place of `path`."""
        if path in self.overridden:
            self.problems.append(Problem(COMMAND_LINE, 0, 0, dotted(path), message, severity))
            return
        if path == ("logging", "level") and path not in self.document.places:
            path = ("log_level",)
        place = self.document.place(path)
        # A block of keys is pointed at by its own key, a scalar where it is written.
        line, column = place.key if at_key or place.text is None else place.value
        if not path and severity == "error":
            line = column = 0
        self.problems.append(Problem(str(self.path), line, column, dotted(path), message, severity))

    def _read(self) -> str | None:
        try:
            data = self.path.read_bytes()
            if len(data) > LARGEST:
                self._whole(f"larger than {LARGEST // 1024 // 1024} MiB; is this a configuration file?")
                return None
            return data.decode("utf-8-sig")
        except FileNotFoundError:
            self._whole("no such file; name the configuration with --config FILE")
        except IsADirectoryError:
            self._whole("is a folder; name the file in it")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            self._whole(f"not UTF-8 text (line {line}); save it as UTF-8")
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._whole(f"cannot be read: {reason}; correct path or permissions")
        return None

    def _refuse_shapeless(self, text: str) -> None:
        if self.document.data is None:
            self._whole("is empty" if not text.strip() else "holds no keys")
        elif not self.usable:
            found = wording.describe(self.document.data)
            self._whole(f'must consist of keys and values such as "services:", found {found}')

    def _whole(self, message: str) -> None:
        self.problems.append(Problem(str(self.path), 0, 0, "", message))

    def _override(self, overrides: Mapping[str, str]) -> None:
        for name, value in overrides.items():
            *way, key = name.split(".")
            section = self.document.data
            for step in way:
                if section.get(step) is None:
                    section[step] = {}
                section = section[step]
                if not isinstance(section, dict):
                    break  # the model says what is wrong with it
            else:
                section[key] = value
                self.overridden.add(tuple(name.split(".")))


def _examine(file: _File, kind: Kind, model: type[Config]) -> Config | None:
    data = file.document.data
    for path, severity, message in unknown.unknown_keys(model, data):
        file.say(path, severity, message, at_key=True)
    for path, severity, message in _beyond_models(file, kind):
        file.say(path, severity, message)
    usable = _without_nothing(data)
    _legacy_level(usable)
    paths.resolve(usable, file.path.absolute().parent)
    return _validate(file, usable, model)


def _beyond_models(file: _File, kind: Kind) -> Iterator[Finding]:
    if kind == "server":
        yield from effects.server_effects(file.document.data)
    else:
        yield from effects.agent_effects(file.document.data)
        yield from checks.crossings(file.document)


def _without_nothing(value: Any) -> Any:
    """`value` without keys that have no value: `logging:` alone on its line means the defaults."""
    if isinstance(value, dict):
        return {key: _without_nothing(item) for key, item in value.items() if item is not None}
    return [_without_nothing(item) for item in value] if isinstance(value, list) else value


def _legacy_level(data: dict[str, Any]) -> None:
    """`log_level` at the root is the older form of `logging.level`, which wins."""
    if "log_level" in data:
        logging = data.setdefault("logging", {})
        if isinstance(logging, dict):
            logging.setdefault("level", data["log_level"])


def _validate(file: _File, data: dict[str, Any], model: type[Config]) -> Config | None:
    for last in (False, True):
        try:
            return model.model_validate(data)
        except ValidationError as error:
            objections = wording.objections(error, data)
        respelled = [_respell(file, data, path) for path, kind, _ in objections if kind == "string_type"]
        if last or not any(respelled):
            break
    for path, kind, message in objections:
        file.say(path, "error", message, at_key=kind == "extra_forbidden")
    return None


def _respell(file: _File, data: Any, path: KeyPath) -> bool:
    """Where text is wanted, a number or truth value is taken as it was spelled: `id: 007` is "007"."""
    place = file.document.places.get(path)
    if not path or place is None or place.text is None:
        return False
    for step in path[:-1]:
        data = data[step]
    if not isinstance(data[path[-1]], (int, float)):
        return False
    data[path[-1]] = place.text
    return True
