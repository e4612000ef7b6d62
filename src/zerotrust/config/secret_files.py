"""Contents of files that a configuration names, such as `users_file`.

The keys are `secret_file`, `users_file`, `key_file`, `jwks_file` and `url_file`. A model with such
keys implements `TakesFiles`. The files are read once, together with the configuration. Their names
are relative to the configuration file. A secret file that other users can read causes a warning.
"""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar, runtime_checkable

from zerotrust.config.diagnostics import KeyPath
from zerotrust.config.document import Source
from zerotrust.config.file_contents import FileContents
from zerotrust.model.base import Model

LARGEST: Final = 1024 * 1024
PUBLIC: Final = frozenset({"key_file", "jwks_file", "ca_file", "cert_file"})
"""Keys whose files may be public: they verify, they do not sign."""

Config = TypeVar("Config", bound=Model)


@runtime_checkable
class TakesFiles(Protocol):
    """A model that needs the contents of files."""

    @property
    def files(self) -> dict[str, str]:
        """Return the key and the name of each file."""

    def with_files(self, contents: Mapping[str, bytes]) -> Self:
        """Return a copy with the contents of the files, by name.

        Raises:
            ValueError: the contents of a file are invalid.
        """


def inline_files(source: Source, config: Config) -> tuple[Config, list[Path]]:
    """Return `config` with the contents of its files, and the paths of these files.

    Problems are added to `source`.
    """
    found: list[Path] = []
    return _inline(source, config, (), found), found


def _inline(source: Source, model: Config, path: KeyPath, found: list[Path]) -> Config:
    changed: dict[str, Any] = {}
    for name in model.model_fields_set & set(type(model).model_fields):
        before = getattr(model, name)
        after = _inside(source, before, (*path, name), found)
        if after is not before:
            changed[name] = after
    filled = model.model_copy(update=changed) if changed else model
    return (
        _filled(source, filled, path, found)
        if isinstance(filled, TakesFiles) and filled.files
        else filled
    )


def _inside(source: Source, value: Any, path: KeyPath, found: list[Path]) -> Any:
    if isinstance(value, Model):
        return _inline(source, value, path, found)
    if not isinstance(value, list):
        return value
    items = [_inside(source, item, (*path, index), found) for index, item in enumerate(value)]
    return value if all(new is old for new, old in zip(items, value, strict=True)) else items


def _filled(source: Source, model: Any, path: KeyPath, found: list[Path]) -> Any:
    contents: dict[str, bytes] = {}
    for key, name in model.files.items():
        file = source.path.absolute().parent / name
        found.append(file)
        for message in read(file, name, contents, source.contents):
            source.report((*path, key), "error", message)
        is_secret = key not in PUBLIC and not source.contents.is_known(file)
        if name in contents and is_secret and (warning := readable_by_all(file, name)):
            source.report((*path, key), "warning", warning)
    if len(contents) < len(set(model.files.values())):
        return model
    try:
        return model.with_files(contents)
    except ValueError as error:
        source.report((*path, next(iter(model.files))), "error", str(error))
        return model


def readable_by_all(file: Path, name: str) -> str | None:
    """Return the fix if all users of this machine can read a secret file, else None."""
    if not file.stat().st_mode & stat.S_IRWXO:
        return None
    return f"all users of this machine can read {name}: run chmod o-rwx {name}"


def read(
    file: Path, name: str, contents: dict[str, bytes], files: FileContents | None = None
) -> Iterator[str]:
    """Add the contents of a file to `contents`, or yield the reason and the fix."""
    try:
        data = (files or FileContents()).read(file, LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        yield f"{name} cannot be read: {reason}; correct the path or the permissions"
        return
    if len(data) > LARGEST:
        yield (
            f"{name} is larger than {LARGEST // 1024 // 1024} MiB; check that this is the right"
            " file"
        )
    elif not data.strip():
        yield f"{name} is empty"
    else:
        contents[name] = data
