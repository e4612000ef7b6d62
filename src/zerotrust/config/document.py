"""A configuration file during its validation: text, values, problems."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from zerotrust.config import environment, error_messages, yaml_text
from zerotrust.config.diagnostics import KeyPath, Problem, Severity, dotted
from zerotrust.config.file_contents import FileContents

LARGEST: Final = 4 * 1024 * 1024
COMMAND_LINE: Final = "command line"
ENVIRONMENT: Final = "environment"


class Source:
    """A configuration file that was read, with its variables replaced.

    Args:
        contents: reads the file, and those that it names.

    Attributes:
        data: the values; later steps change them in place.
        document: the values with their positions in the text.
        problems: the problems found so far.
        renamed: path of each key that was moved, and its path in the file.
        ineffective: paths of keys without effect, and the reasons.
    """

    def __init__(
        self,
        path: Path,
        *,
        overrides: Mapping[str, str],
        variables: Mapping[str, str],
        contents: FileContents | None = None,
    ) -> None:
        self.path = path
        self.contents = contents or FileContents()
        self.problems: list[Problem] = []
        self.renamed: dict[KeyPath, KeyPath] = {}
        self.ineffective: dict[KeyPath, str] = {}
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
        """Return the values of the file."""
        return self.document.data

    @property
    def usable(self) -> bool:
        """Return True if the file contains keys and values."""
        return isinstance(self.document.data, dict)

    @property
    def errors(self) -> list[Problem]:
        """Return the problems that make the file unusable."""
        return [problem for problem in self.problems if problem.severity == "error"]

    def report(
        self,
        path: KeyPath,
        severity: Severity,
        message: str,
        *,
        at_key: bool = False,
        ineffective: bool = False,
    ) -> None:
        """Add a problem at `path`. `ineffective` means that the key has no effect."""
        if path in self._overridden:
            self.problems.append(
                Problem(self._overridden[path], 0, 0, dotted(path), message, severity, path)
            )
            return
        path = self.path_in_file(path)
        if path in self.document.unresolved:
            return
        if ineffective:
            self.ineffective[path] = message
        place = self.document.place(path)
        # The position of a mapping or list is its key, that of a scalar its value.
        line, column = place.key if at_key or place.text is None else place.value
        if not path and severity == "error":
            line = column = 0
        self.problems.append(
            Problem(str(self.path), line, column, dotted(path), message, severity, path)
        )

    def remove_items(self, key: str, indexes: set[int]) -> None:
        """Remove these items from the list at `key`, and the problems in their text."""
        kept = [index for index in range(len(self.data[key])) if index not in indexes]
        self.data[key] = [self.data[key][index] for index in kept]
        self.renamed.update({(key, new): (key, old) for new, old in enumerate(kept) if new != old})
        self.problems = [
            p for p in self.problems if p.path[:1] != (key,) or p.path[1] not in indexes
        ]

    def path_in_file(self, path: KeyPath) -> KeyPath:
        """Return the path in the file of the value that is now at `path`."""
        for length in range(len(path), 0, -1):
            if (former := self.renamed.get(path[:length])) is not None:
                return former + path[length:]
        return path

    def override(self, name: str, value: str, *, by: str) -> None:
        """Set a key ("api.listen_addr") from another source than the file.

        Problems with the key then name that source (`by`).
        """
        *way, key = name.split(".")
        section = self.document.data
        if not isinstance(section, dict):
            return
        for step in way:
            if section.get(step) is None:
                section[step] = {}
            section = section[step]
            if not isinstance(section, dict):
                return  # the model reports the error
        section[key] = value
        self._overridden[tuple(name.split("."))] = by

    def _read(self) -> str | None:
        try:
            data = self.contents.read(self.path, LARGEST + 1)
            if len(data) > LARGEST:
                self._whole(
                    f"larger than {LARGEST // 1024 // 1024} MiB; check that this is the right file"
                )
                return None
            return data.decode("utf-8-sig")
        except FileNotFoundError:
            self._whole("no such file; name the configuration with --config FILE")
        except IsADirectoryError:
            self._whole("is a folder; name a file")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            self._whole(f"line {line} is not UTF-8 text; save the file as UTF-8")
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._whole(f"cannot be read: {reason}; correct the path or the permissions")
        return None

    def _refuse_shapeless(self, text: str) -> None:
        if self.document.data is None:
            self._whole("is empty" if not text.strip() else "contains no keys")
        elif not self.usable:
            found = error_messages.describe(self.document.data)
            self._whole(f'expected keys and values such as "services:", found {found}')

    def _whole(self, message: str) -> None:
        self.problems.append(Problem(str(self.path), 0, 0, "", message))
