"""Page Requests: the traffic of each service, and the last requests of one."""

import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

from zerotrust.model.worker_messages import FinishedQuery
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.hour_graphs import drawn, traffic_graphs
from zerotrust.server.dashboard.listing import Listing, page_of
from zerotrust.server.dashboard.live_page import LivePage
from zerotrust.server.dashboard.parts import DashboardParts
from zerotrust.server.ops.recent_requests import MAX_OF_SERVICE, OWN_PAGES
from zerotrust.telemetry.service_traffic import ServiceKey

INTERVAL: Final = 2.0
"""Seconds between two versions of the list of a busy service."""
ROWS: Final = 100
MAX_SHOWN: Final = 128


class RequestsPage(LivePage):
    """The services that have had requests; with the query `agent` and `service`, one of them."""

    path: ClassVar = "/requests"
    template: ClassVar = "requests"
    title: ClassVar = "Requests"
    parameters: ClassVar = ("agent", "service", "after")

    def __init__(
        self, parts: DashboardParts, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(parts)
        self._clock = clock
        self._shown: dict[ServiceKey, tuple[int, Hashable]] = {}
        """Newest request of each service that somebody looks at, and the interval of the look."""
        self.fragments["graphs"] = Fragment(
            "service_graphs", self._graphs, self._slot, follows_audit=False
        )
        self.fragments["list"] = Fragment(
            "requests_list", self._list, self._newest, follows_audit=False
        )

    async def values(self, view: View, visit: Any) -> Mapping[str, Any]:
        return {"service": _service(view)}

    def heading(self, view: View) -> str:
        service = _service(view)
        if service is None:
            return self.title
        return f"Requests of {_name(service)}"

    # ---- versions

    def _slot(self, _view: View) -> Hashable:
        return self.parts.commands.traffic.slot

    def _newest(self, view: View) -> Hashable:
        service, traffic = _service(view), self.parts.commands.traffic
        if service is None:
            return traffic.services_version
        step = int(self._clock() // INTERVAL)
        shown = self._shown.get(service)
        if shown is None or shown[0] != step:
            if len(self._shown) >= MAX_SHOWN:
                self._shown.clear()
            shown = self._shown[service] = (step, traffic.newest_of(service))
        return shown[1]

    # ---- values

    async def _graphs(self, view: View) -> Mapping[str, Any]:
        service, traffic = _service(view), self.parts.commands.traffic
        hour = None if service is None else await traffic.of_service(service)
        return await drawn([] if hour is None else traffic_graphs(hour, "service"))

    async def _list(self, view: View) -> Mapping[str, Any]:
        service = _service(view)
        if service is None:
            return {
                "service": None,
                "services": await self._services(view),
                "most": MAX_OF_SERVICE,
            }
        agent, name = service
        asked = FinishedQuery(agent=agent, service=name, limit=ROWS + 1, **_cursor(view))
        requests = await self.parts.commands.traffic.requests(asked)
        following = ""
        if len(requests) > ROWS:
            last = requests[ROWS - 1]
            after = f"{last.ended!r} {last.id}"
            following = urlencode({"agent": agent, "service": name, "after": after})
        return {"service": service, "requests": requests[:ROWS], "following": following}

    async def _services(self, view: View) -> Listing[Mapping[str, Any]]:
        """Return one row for each service: its newest numbers, and where its requests are."""
        traffic = self.parts.commands.traffic
        listed = page_of(traffic.services, " ".join, view)
        rows: list[Mapping[str, Any]] = [
            {
                "name": _name(service),
                "agent": service[0],
                "url": f"{self.path}?{urlencode({'agent': service[0], 'service': service[1]})}",
                "numbers": numbers,
            }
            for service, numbers in zip(
                listed.rows, await traffic.numbers(listed.rows), strict=True
            )
        ]
        return Listing(rows, listed.next, listed.total)


def _cursor(view: View) -> dict[str, Any]:
    """Return the last request of the page before, as the query names it; empty without one."""
    ended, _, request_id = view.get("after").partition(" ")
    cursor: dict[str, Any]
    try:
        cursor = {"ended": float(ended), "id": request_id}
    except ValueError:
        return {}
    return cursor if math.isfinite(cursor["ended"]) else {}


def _service(view: View) -> ServiceKey | None:
    """Return the service that the query names; None without one."""
    names = {key for key, _ in view.query}
    return (view.get("agent"), view.get("service")) if "service" in names else None


def _name(service: ServiceKey) -> str:
    return "the server's own pages" if service == OWN_PAGES else service[1]
