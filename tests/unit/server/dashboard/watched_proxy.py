"""A proxy whose requests a dashboard shows."""

import re
from typing import Any

from tests.support.dashboard_server import DashboardServer
from tests.support.portal_server import Browser, Reply
from tests.unit.server.observed_proxy import ObservedProxy
from zerotrust.net.tasks import Tasks
from zerotrust.server.identity.audit import Audit
from zerotrust.server.ops.capture_admin import CaptureAdmin
from zerotrust.server.ops.connection_admin import ConnectionAdmin
from zerotrust.server.ops.traffic_admin import TrafficAdmin
from zerotrust.server.ops.traffic_history import TrafficHistory
from zerotrust.server.proxy.captures import Captures


class WatchedProxy(ObservedProxy):
    """`ObservedProxy` that is the one of a dashboard's server."""

    def __init__(self, server: DashboardServer, **about: Any) -> None:
        super().__init__(**about)
        commands = server.commands
        audit = Audit(server.store.database)
        commands.connections = ConnectionAdmin(lambda: self.registry.sessions, audit)
        commands.captures = CaptureAdmin(Captures(audit, Tasks()), self.registry, self.ingress)
        history = TrafficHistory(lambda: self.registry.sessions, self.ingress, Tasks())
        history.turn(on=True)
        history.sampler, history.recent = self.sampler, self.recent
        self.ingress.observers = (history.observe,)
        commands.traffic = TrafficAdmin(history)


async def press(browser: Browser, reply: Reply, label: str, number: int = 0) -> Reply:
    """Press a button that sends the form of the layout."""
    button = [one for one in reply.page.buttons if one.get("aria-label", "").startswith(label)][
        number
    ]
    token = re.search(r'name="csrf" value="([^"]+)"', reply.text)
    assert token is not None and button["form"] == "act"
    url = reply.url.split("/connections")[0] + button["formaction"]
    return await browser.post(url, {"csrf": token[1], button["name"]: button["value"]})
