"""Home Assistant as a backend: the real program, installed into `build/home-assistant`.

Its flow of proof is the one of all its clients: the web view signs in by `/auth/login_flow`, an app
gets tokens at `/auth/token`, registers at `/api/mobile_app/registrations`, and from then on reports
to `/api/webhook/ID` without any token.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from tests.support.client import Response
from tests.support.entrypoint import Entrypoint
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process, wait_port
from tests.support.waiting import eventually

LOCK: Final = Path(__file__).with_name("requirements.txt")
VENV: Final = ROOT / "build" / "home-assistant"
CLIENT: Final = "https://home.example.com/"
"""Client id of the web view and the app: the address of the page."""
PASSWORD: Final = "swordfish-123"

_CONFIGURATION: Final = """
http:
  server_host: 127.0.0.1
  server_port: {port}
  use_x_forwarded_for: true
  trusted_proxies: [127.0.0.1]
frontend:
onboarding:
mobile_app:
"""
_APP: Final = {
    "device_id": "phone-1",
    "app_id": "io.robbie.HomeAssistant",
    "app_name": "Home Assistant",
    "app_version": "2024.3",
    "device_name": "Anna's phone",
    "manufacturer": "Example",
    "model": "One",
    "os_name": "Android",
    "os_version": "14",
    "supports_encryption": False,
}


def install() -> Path:
    """Install Home Assistant, unless it is there; return its program.

    The lock leaves out pip, which Home Assistant would use for further parts.
    """
    done = VENV / "installed"
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not done.exists() or done.read_text() != lock:
        uv = Path(sys.executable).with_name("uv")
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV], check=True
        )
        packages: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", VENV]
        subprocess.run([*packages, "--no-deps", "--require-hashes", "-r", LOCK], check=True)
        done.write_text(lock)
    return VENV / "bin" / "hass"


class HomeAssistant(Process):
    """A fresh Home Assistant; entering the context waits until it serves its API.

    Attributes:
        direct: its own port, without 0Trust.
    """

    def __init__(self, folder: Path, program: Path) -> None:
        self.port = free_port()
        self.direct = Entrypoint(self.port)
        config = folder / "home-assistant"
        config.mkdir()
        (config / "configuration.yaml").write_text(_CONFIGURATION.format(port=self.port))
        command: list[str | Path] = [program, "--config", config, "--skip-pip"]
        super().__init__("home-assistant", command, log=folder / "home-assistant.log")

    async def __aenter__(self) -> "HomeAssistant":
        self.start()
        await wait_port(self.port, process=self, timeout=60)
        await eventually(self._ready, "Home Assistant is ready for its set-up", 60)
        return self

    async def _ready(self) -> bool:
        return (await self.direct.get("localhost", "/api/onboarding")).status == 200

    async def create_owner(self) -> str:
        """Finish the first step of the set-up; return the code for the first token."""
        owner = {"client_id": CLIENT, "name": "Anna", "username": "anna", "password": PASSWORD}
        made = await post_json(
            self.direct, "localhost", "/api/onboarding/users", {**owner, "language": "en"}
        )
        code: str = made.json()["auth_code"]
        return code


Headers = tuple[tuple[str, str], ...]


async def post_json(
    entrypoint: Entrypoint, host: str, path: str, data: Any, *fields: tuple[str, str]
) -> Response:
    """POST data as JSON."""
    body = json.dumps(data).encode()
    head = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        *fields,
    ]
    return await entrypoint.request(host, "POST", path, head, body)


async def post_form(
    entrypoint: Entrypoint, host: str, path: str, data: dict[str, str], *fields: tuple[str, str]
) -> Response:
    """POST data as a form."""
    body = urlencode(data).encode()
    head = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Length", str(len(body))),
        *fields,
    ]
    return await entrypoint.request(host, "POST", path, head, body)


async def sign_in_by_web_view(
    entrypoint: Entrypoint, host: str, *fields: tuple[str, str]
) -> Response:
    """Sign in as the page in an app's web view does; the answer has a code as `result`."""
    flow = {"client_id": CLIENT, "handler": ["homeassistant", None], "redirect_uri": CLIENT}
    begun = await post_json(entrypoint, host, "/auth/login_flow", flow, *fields)
    if begun.status != 200:
        return begun
    proof = {"client_id": CLIENT, "username": "anna", "password": PASSWORD}
    path = f"/auth/login_flow/{begun.json()['flow_id']}"
    return await post_json(entrypoint, host, path, proof, *fields)


class CompanionApp:
    """The companion app: its native calls, each with the header fields that the user has set.

    Attributes:
        fields: header fields of each call, such as 0Trust's token.
        webhook: path of the app's webhook, once it is registered.
    """

    def __init__(self, entrypoint: Entrypoint, host: str, fields: Headers = ()) -> None:
        self.fields = fields
        self.webhook = ""
        self._entrypoint = entrypoint
        self._host = host
        self._token = ""

    async def sign_in(self, code: str) -> Response:
        """Exchange a code of the web view for tokens."""
        form = {"grant_type": "authorization_code", "code": code, "client_id": CLIENT}
        answer = await post_form(self._entrypoint, self._host, "/auth/token", form, *self.fields)
        if answer.status == 200:
            self._token = answer.json()["access_token"]
        return answer

    @property
    def bearer(self) -> tuple[str, str]:
        """The field with Home Assistant's own token."""
        return ("Authorization", f"Bearer {self._token}")

    async def register(self) -> Response:
        """Register the device; from then on it reports to its webhook."""
        answer = await post_json(
            self._entrypoint,
            self._host,
            "/api/mobile_app/registrations",
            _APP,
            self.bearer,
            *self.fields,
        )
        if answer.status == 201:
            self.webhook = f"/api/webhook/{answer.json()['webhook_id']}"
        return answer

    async def report(self) -> Response:
        """Report a location in the background: no cookie, no token, no header fields."""
        data = {"gps": [52.5, 13.4], "gps_accuracy": 10, "battery": 80}
        return await post_json(
            self._entrypoint,
            self._host,
            self.webhook,
            {"type": "update_location", "data": data},
        )
