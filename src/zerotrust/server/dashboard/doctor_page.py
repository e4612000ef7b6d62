"""Page Doctor: examines the server as `0trust doctor` does, and shows the findings."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from zerotrust.model.doctor import Finding
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.live_page import LivePage, back_to
from zerotrust.server.dashboard.parts import DashboardParts

PATIENCE: Final = 5.0
"""Seconds for which the form waits for the end. After that, the page says that it goes on."""
ROWS: Final = 100
MAX_TEXT: Final = 600
"""Characters of each text of a finding: answers of other machines are in it."""


class DoctorPage(LivePage):
    """The findings of the last examination, and a button for the next one."""

    path: ClassVar = "/doctor"
    template: ClassVar = "doctor"
    title: ClassVar = "Doctor"

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["findings"] = Fragment(
            "doctor_findings",
            self._findings,
            lambda _view: parts.examination.version,
            follows_audit=False,
        )

    def routes(self) -> list[Route]:
        return [*super().routes(), Route("/doctor/run", self._run, methods=["POST"])]

    async def _findings(self, _view: View) -> Mapping[str, Any]:
        examination = self.parts.examination
        result = examination.result
        found = () if result is None else result.findings
        return {
            "began_at": examination.began_at,
            "result": result,
            "findings": [_cut(one) for one in found[:ROWS]],
            "more": max(0, len(found) - ROWS),
        }

    async def _run(self, request: Request) -> Response:
        await self.parts.form(request, widens=False)
        await self.parts.examination.run(PATIENCE)
        return back_to(self.path)


def _cut(finding: Finding) -> Finding:
    """Return a finding without what is too long to be shown."""
    texts = {name: getattr(finding, name) for name in ("what", "seen", "fix")}
    return finding.model_copy(
        update={
            name: f"{text[: MAX_TEXT - 1]}…" for name, text in texts.items() if len(text) > MAX_TEXT
        }
    )
