"""The reference pages, made from the models: `python scripts/gen_reference.py [FOLDER]` writes them.

What a key means is said once, below the field that holds it, and is read from the source here. What it may be comes
from its annotation, in words of YAML rather than of Python.
"""

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from zerotrust.config import legacy
from zerotrust.model.agent import AgentConfig
from zerotrust.model.middleware import Handler, ReverseProxy
from zerotrust.model.server import ServerConfig

FOLDER: Final = Path("docs/reference")

_WORDS: Final = {
    "Any": "anything",
    "ByteRate": 'rate, such as `"10MB/s"`',
    "ByteSize": 'size, such as `"10MB"`',
    "Duration": "duration",
    "HostName": "host name",
    "Listen": "address to listen at",
    "Realm": "text",
    "Secret": "text (secret)",
    "UpstreamAddress": "address of a backend",
    "bool": "true or false",
    "dict": "keys and values",
    "float": "number",
    "int": "whole number",
    "str": "text",
}
_INTRODUCTION: Final = """\
<!-- Made by `python scripts/gen_reference.py`: change the models, not this page. -->

# {title}

Durations are written `30s`, `5m`, `1h30m` or `500ms`. File names are relative to the folder of this file.

In values, `${{NAME}}` is the environment variable of this name, and `${{NAME:-default}}` has a default; `$${{` is a
literal `${{`. What comes from a variable is text, never YAML; numbers and true or false are read from it. Inside `[ ]`
and `{{ }}` put it in quotes.

`0trust config check --verbose FILE` says what becomes of each key of a file.
"""
_HEAD: Final = "| key | what it may be | default | meaning |\n| --- | --- | --- | --- |"
_HANDLERS: Final = "[handlers](#handlers)"


def agent_page() -> str:
    """The reference of the agent's file."""
    names = {f"services[].websocket.{old}": f"services[].{new}" for old, new in legacy.WEBSOCKET_NAMES.items()}
    names[legacy.LEVEL] = "logging.level"
    parts = [_INTRODUCTION.format(title="The agent's file"), *_sections(AgentConfig, "")]
    parts += ["## Handlers", *_handlers(), "## Older keys", _older(names)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def server_page() -> str:
    """The reference of the server's file."""
    parts = [_INTRODUCTION.format(title="The server's file"), *_sections(ServerConfig, "")]
    parts += ["## Older keys", _older({legacy.LEVEL: "logging.level"})]
    return "\n\n".join(part.strip() for part in parts) + "\n"


PAGES: Final = {"agent.md": agent_page, "server.md": server_page}


def _older(names: Mapping[str, str]) -> str:
    lines = ["These are read too.", "", "| key | now |", "| --- | --- |"]
    lines += [f"| `{old}` | `{new}` |" for old, new in sorted(names.items())]
    return "\n".join(lines)


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    """The table of a model's keys, and a section for each model among them."""
    if path:
        yield f"## `{path}`"
        yield _docstring(model)
    yield _table(model)
    for name, field in model.model_fields.items():
        inner = _models(field.annotation)
        if len(inner) == 1:
            many = "[]" if get_origin(field.annotation) is list else ""
            yield from _sections(inner[0], f"{path}.{name}{many}".removeprefix("."))


def _handlers() -> Iterator[str]:
    yield "Each is written `{type: KIND, config: {…}}`."
    yield _where_they_run()
    for kind in _models(Handler):
        yield f"### {_listed(_names(kind))}"
        yield _docstring(kind)
        for settings in _models(kind.model_fields["config"].annotation):
            yield _docstring(settings)
            yield _table(settings)
            for name, field in settings.model_fields.items():
                for inner in _models(field.annotation):
                    yield f"`{name}`: {_docstring(inner)}"
                    yield _table(inner)


def _where_they_run() -> str:
    agents = _names(ReverseProxy)
    others = [name for kind in _models(Handler) for name in _names(kind) if name not in agents]
    return (
        f"At the server, before the tunnel, run {_listed(others)}: who is refused costs the private network nothing. "
        f"At the agent runs {_listed(agents)}, and with it what depends on the upstream (`load_balancing`, health "
        f"checks, `host_header`, `origin`, limits of time)."
    )


def _names(kind: type[BaseModel]) -> tuple[str, ...]:
    return get_args(kind.model_fields["type"].annotation)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(model: type[BaseModel]) -> str:
    meanings = _meanings(model)
    rows = [_HEAD]
    for name, field in model.model_fields.items():
        meaning = field.description or meanings.get(name, "")
        cells = (f"`{name}`", _kind(model, name, field), _default(field), _plain(meaning))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _kind(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    inner = _models(field.annotation)
    if len(inner) > 1:
        return f"list of {_HANDLERS}" if get_origin(field.annotation) is list else _HANDLERS
    source, module = _annotation(model, name)
    return _words(source, module) + _bounds(field)


def _words(node: ast.expr, module: ModuleType) -> str:
    """An annotation as people who write YAML would say it."""
    match node:
        case ast.BinOp(left=left, right=ast.Constant(value=None)):
            return _words(left, module)
        case ast.BinOp(left=left, right=right):
            return f"{_words(left, module)} or {_words(right, module)}"
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return f"list of {_words(inner, module)}"
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[inner, *_])):
            return _words(inner, module)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=options):
            return _options(ast.literal_eval(options))
        case ast.Subscript(value=ast.Name(id=name)):
            return _WORDS.get(name, name)
        case ast.Name(id=name):
            return _named(name, vars(module).get(name))
    return ast.unparse(node)


def _named(name: str, meant: Any) -> str:
    if name in _WORDS:
        return _WORDS[name]
    if isinstance(meant, type) and issubclass(meant, BaseModel):
        return "keys and values"
    options = next((part for part in (meant, *get_args(meant)) if get_origin(part) is Literal), None)
    if options is not None:
        return _options(get_args(options))
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)
    return spaced.strip()


def _options(values: object) -> str:
    written = values if isinstance(values, tuple) else (values,)
    return ", ".join(f"`{value}`" if value != "" else '`""`' for value in written)


def _bounds(field: FieldInfo) -> str:
    least = next((limit.ge for limit in field.metadata if isinstance(limit, annotated_types.Ge)), None)
    most = next((limit.le for limit in field.metadata if isinstance(limit, annotated_types.Le)), None)
    if least is not None and most is not None:
        return f", {_bound(least)} to {_bound(most)}"
    if least is not None:
        return f", at least {_bound(least)}"
    return f", at most {_bound(most)}" if most is not None else ""


def _bound(value: Any) -> str:
    return _duration(value) if isinstance(value, float) else f"{value:,}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value in (None, "", [], {}) or isinstance(value, BaseModel):
        return ""
    if isinstance(value, float):
        return f"`{_duration(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{', '.join('-'.join(map(str, part)) for part in value)}`"
    return f"`{', '.join(value)}`" if isinstance(value, list) else f"`{value}`"


def _duration(seconds: float) -> str:
    if seconds and seconds < 1:
        return f"{seconds * 1000:g}ms"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value of this annotation may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is dict:
        return []
    return [model for part in get_args(annotation) for model in _models(part)]


def _docstring(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "")


def _plain(text: str) -> str:
    return " ".join(text.split())


@cache
def _classes(module: ModuleType) -> dict[str, ast.ClassDef]:
    tree = ast.parse(inspect.getsource(module))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _definitions(model: type[BaseModel]) -> Iterator[tuple[ast.ClassDef, ModuleType]]:
    """The source of a model and of those that it is made from, the nearest first."""
    for part in model.__mro__:
        if issubclass(part, BaseModel) and part is not BaseModel:
            module = sys.modules[part.__module__]
            yield _classes(module)[part.__name__], module


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """What stands below each field."""
    found: dict[str, str] = {}
    for definition, _ in _definitions(model):
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found.setdefault(name, text)
    return found


def _annotation(model: type[BaseModel], name: str) -> tuple[ast.expr, ModuleType]:
    for definition, module in _definitions(model):
        for node in definition.body:
            match node:
                case ast.AnnAssign(target=ast.Name(id=found), annotation=annotation) if found == name:
                    return annotation, module
    raise LookupError(f"{model.__name__}.{name} has no annotation in its source")


def write(folder: Path) -> None:
    """Write the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
