"""One configuration file under examination: its text, its values, and what was found out about each key so far."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from zerotrust.config import environment, error_messages, yaml_text
from zerotrust.config.diagnostics import KeyPath, Problem, Severity, dotted

LARGEST: Final = 4 * 1024 * 1024
COMMAND_LINE: Final = "command line"
ENVIRONMENT: Final = "environment"


class Source:
    """A file, read and expanded. What is wrong with the text itself is in `problems` from the start.

    Attributes:
        data: the values; the stations that follow change it in place.
        document: where everything is written.
        problems: all that is wrong so far.
        renamed: where a key was moved to, and the path at which the file has it.
        idle: keys that do nothing, and why.
    """

    def __init__(self, path: Path, *, overrides: Mapping[str, str], variables: Mapping[str, str]) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.renamed: dict[KeyPath, KeyPath] = {}
        self.idle: dict[KeyPath, str] = {}
        self.document = yaml_text.Document()
        self._overridden: dict[KeyPath, str] = {}
        text = self._read()
        if text is None:
            return
        self.document = yaml_text.parse(text)
        environment.substitute(self.document, variables)
        for at, key, message in self.document.faults:
            self.problems.append(Problem(str(path), *at, dotted(key), message, path=key))
        if not self.problems:
            self._refuse_shapeless(text)
        for name, value in overrides.items():
            self.override(name, value, by=COMMAND_LINE)

    @property
    def data(self) -> Any:
        """The values of the file."""
        return self.document.data

    @property
    def usable(self) -> bool:
        """True where there is a mapping to look into."""
        return isinstance(self.document.data, dict)

    @property
    def errors(self) -> list[Problem]:
        """The problems that keep the file from being used."""
        return [problem for problem in self.problems if problem.severity == "error"]

    def say(self, path: KeyPath, severity: Severity, message: str, *, at_key: bool = False, idle: bool = False) -> None:
        """Add a problem at the place of `path`; `idle` says that the key does nothing."""
        if path in self._overridden:
            self.problems.append(Problem(self._overridden[path], 0, 0, dotted(path), message, severity, path))
            return
        path = self.as_written(path)
        if path in self.document.unresolved:
            return
        if idle:
            self.idle[path] = message
        place = self.document.place(path)
        # A block of keys is pointed at by its own key, a scalar where it is written.
        line, column = place.key if at_key or place.text is None else place.value
        if not path and severity == "error":
            line = column = 0
        self.problems.append(Problem(str(self.path), line, column, dotted(path), message, severity, path))

    def leave_out(self, key: str, indexes: set[int]) -> None:
        """Go on without these items of the list at `key`, and without what is wrong with their text."""
        kept = [index for index in range(len(self.data[key])) if index not in indexes]
        self.data[key] = [self.data[key][index] for index in kept]
        self.renamed.update({(key, new): (key, old) for new, old in enumerate(kept) if new != old})
        self.problems = [p for p in self.problems if p.path[:1] != (key,) or p.path[1] not in indexes]

    def as_written(self, path: KeyPath) -> KeyPath:
        """The path at which the file has what is now at `path`."""
        for length in range(len(path), 0, -1):
            if (former := self.renamed.get(path[:length])) is not None:
                return former + path[length:]
        return path

    def override(self, name: str, value: str, *, by: str) -> None:
        """Set a key ("api.listen_addr") that something else decides than the file; it is then what is complained of."""
        *way, key = name.split(".")
        section = self.document.data
        if not isinstance(section, dict):
            return
        for step in way:
            if section.get(step) is None:
                section[step] = {}
            section = section[step]
            if not isinstance(section, dict):
                return  # the model says what is wrong with it
        section[key] = value
        self._overridden[tuple(name.split("."))] = by

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
            found = error_messages.describe(self.document.data)
            self._whole(f'must consist of keys and values such as "services:", found {found}')

    def _whole(self, message: str) -> None:
        self.problems.append(Problem(str(self.path), 0, 0, "", message))
