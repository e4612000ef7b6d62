"""Page of the audit log: newest records first, with filter, verification and export."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from zerotrust.model import admin
from zerotrust.net.json_api import CallError
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.listing import ROWS
from zerotrust.server.dashboard.live_page import LivePage
from zerotrust.server.dashboard.parts import DashboardParts
from zerotrust.server.ops.command_parameters import parsed

EXPORTED_AT_ONCE: Final = 1000
MAX_EXPORTED: Final = 100_000
"""Records of an export; `0trust audit export` prints all."""
_FILTERS: Final = ("agent", "action", "before")

MAX_DETAILS: Final = 16


class Detail(NamedTuple):
    """A value of a record's details.

    Attributes:
        is_time: the value is seconds since 1970.
    """

    key: str
    value: object
    is_time: bool


class AuditPage(LivePage):
    """Records of the audit log."""

    path: ClassVar = "/audit"
    template: ClassVar = "audit"
    title: ClassVar = "Audit"
    parameters: ClassVar = _FILTERS

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self._verifying = False
        self.fragments["records"] = Fragment("audit_records", self._records)

    def routes(self) -> list[Route]:
        return [
            *super().routes(),
            Route("/audit/verify", self._verify, methods=["POST"]),
            Route("/audit/export", self._export, methods=["POST"]),
        ]

    async def _records(self, view: View) -> Mapping[str, Any]:
        filters = {name: value for name in _FILTERS if (value := view.get(name).strip())}
        asked = parsed(admin.AuditQuery, {**filters, "limit": ROWS})
        records = (await self.parts.commands.records(asked, "")).records[::-1]
        older = {}
        if len(records) == ROWS and records[-1].number > 1:
            older = filters | {"before": str(records[-1].number)}
        return {"records": records, "older": older, "shown_details": shown_details}

    async def _verify(self, request: Request) -> Response:
        visit, _ = await self.parts.form(request, widens=False, by_viewers=True)
        if self._verifying:  # it reads all records, and those who may only look may start it
            raise CallError("another verification is running: wait until it has ended", 409)
        self._verifying = True
        try:
            check = await self.parts.commands.verify(admin.NoParameters(), visit.actor)
        finally:
            self._verifying = False
        return self.parts.page(
            request, visit, "audit_check", title="Verification of the audit log", check=check
        )

    async def _export(self, request: Request) -> Response:
        visit, _ = await self.parts.form(request, widens=False, by_viewers=True)
        await self.parts.commands.note_export(visit.actor)
        return StreamingResponse(
            self._lines(),
            media_type="application/x-ndjson",
            headers={"Content-Disposition": 'attachment; filename="audit.ndjson"'},
        )

    async def _lines(self) -> AsyncIterator[bytes]:
        """Yield the newest records, the oldest of them first."""
        last = await self.parts.commands.last_record()
        after = max(last - MAX_EXPORTED, 0)
        while after < last:
            asked = admin.AuditQuery(after=after, limit=min(EXPORTED_AT_ONCE, last - after))
            lines = await self.parts.commands.audit_lines(asked)
            if not lines:
                return
            yield lines
            after = int(json.loads(lines.splitlines()[-1])["number"])


def shown_details(details: object) -> list[Detail]:
    """Return the values of a record's details, without those that are missing."""
    if not isinstance(details, dict):
        return []
    return [
        Detail(key.replace("_", " "), value, is_time=key.endswith("_at") and isinstance(value, int))
        for key, value in list(details.items())[:MAX_DETAILS]
        if value not in (None, "", [])
    ]
