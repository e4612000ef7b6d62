"""Pages of `web_site`, each with its type."""

import json
from string import Template

_PAGE = Template("""<!doctype html><html lang="en"><meta charset="utf-8"><title>$title</title>
<link rel="icon" href="data:,">$head<h1>$title</h1>$body</html>""")

PARTS = 20
"""Requests that the page of an album makes, beside its manifest and its worker."""

_IMAGE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
_ALBUM = """<p id="seen">
<script>
// Each part says by which status it was answered, or that a script may not read it.
const statusOf = (path, options) => fetch(path, options).then((r) => r.status, () => "failed");
const image = (number) => new Promise((done) => {
  const one = new Image();
  one.onload = () => done(200);
  one.onerror = () => done("failed");
  one.src = `/image/${number}.svg`;
});
const xhr = () => new Promise((done) => {
  const one = new XMLHttpRequest();
  one.onloadend = () => done(one.status);
  one.open("GET", "/data/xhr");
  one.send();
});
Promise.all([
  ...Array.from({ length: 12 }, (_, number) => image(number)),
  ...[1, 2, 3].map((number) => statusOf(`/data/${number}`)),
  statusOf("/data/4", { method: "HEAD" }),
  statusOf("/data/5", { method: "POST", body: "x" }),
  statusOf("/data/6", { headers: { Accept: "text/html" } }),
  statusOf("/image/99.svg", { mode: "no-cors" }),
  xhr(),
]).then((all) => { document.getElementById("seen").textContent = JSON.stringify(all); });
</script>"""

_CHART = """<p id="value"></p><p id="state"></p><p id="closed"></p>
<script>
const put = (id, text) => { document.getElementById(id).textContent = text; };
const socket = new WebSocket(`wss://${location.host}/live`);
socket.onopen = () => put("state", "open");
socket.onmessage = (event) => put("value", event.data);
socket.onclose = (event) => put("closed", JSON.stringify([event.code, event.reason, Date.now()]));
</script>"""

_WORKER = """
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(clients.claim()));
self.addEventListener("fetch", (event) => event.respondWith((async () => {
  const cache = await caches.open("pages");
  const kept = await cache.match(event.request);
  if (kept) return kept;
  const answer = await fetch(event.request);
  if (answer.ok && event.request.method === "GET") cache.put(event.request, answer.clone());
  return answer;
})()));
"""


def page(title: str, body: str = "", head: str = "") -> str:
    """Return an HTML page."""
    return _PAGE.substitute(title=title, body=body, head=head)


FORM = page(
    "Form",
    '<form method="post" action="/form"><input name="text" aria-label="Text"><button>Send</button></form>',
)

_MANIFEST = {"name": "Photos", "start_url": "/", "display": "standalone"}
_LINK = '<link rel="manifest" href="/manifest.json"%s>'


def at(path: str) -> tuple[str, str]:
    """Return type and body at a path; paths without a page of their own show their name."""
    html = "text/html; charset=utf-8"
    if path.endswith(".svg"):
        return "image/svg+xml", _IMAGE
    if path.startswith("/data"):
        return "application/json", json.dumps(path)
    match path:
        case "/manifest.json" | "/open/manifest.json":
            return "application/manifest+json", json.dumps(_MANIFEST)
        case "/worker.js":
            return "text/javascript", _WORKER
        case "/chart":
            return html, page("Chart", _CHART)
        case "/open/album":
            return html, page("Open album", _ALBUM)
        case "/album/7":
            return html, page("Album 7", _ALBUM)
        case "/open/app":
            return html, page("App", head=_LINK % "")
        case "/open/app-with-credentials":
            return html, page("App", head=_LINK % ' crossorigin="use-credentials"')
        case "/open/app-with-open-manifest":
            return html, page("App", head=(_LINK % "").replace("/manifest", "/open/manifest"))
    return html, page(path)
