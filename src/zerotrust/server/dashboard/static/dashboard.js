// Script of the dashboard: replaces the parts of a page that have changed, and copies texts. The
// pages work without it.

const RETRY = 5000;
const live = document.getElementById("live");

function say(text, state) {
  if (!live || live.textContent === text) return;
  live.textContent = text; // a live region: screen readers say it
  live.dataset.state = state;
}

function localise(root) {
  for (const element of root.querySelectorAll("time")) {
    const date = new Date(element.dateTime);
    element.textContent =
      "seconds" in element.dataset
        ? date.toLocaleTimeString()
        : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  }
}

function fragment(name) {
  return document.querySelector(`[data-fragment="${CSS.escape(name)}"]`);
}

// Elements that people have opened, or are at, stay so: they are found again by their ids.
function replace(previous, html) {
  const next = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
  if (!next) return;
  const opened = [...previous.querySelectorAll("details[open][id]")].map((each) => each.id);
  const focused = previous.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = [...previous.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  localise(next);
  previous.replaceWith(next);
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  next.querySelectorAll(".scroll").forEach((each, index) => (each.scrollLeft = scrolled[index] || 0));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function refresh(name, version) {
  const previous = fragment(name);
  if (!previous || previous.dataset.version === version) return;
  const response = await fetch(location.pathname + location.search, {
    headers: { "X-Fragment": name },
    redirect: "error",
  });
  if (response.ok) replace(previous, await response.text());
}

let source = null;
let timer = 0;

async function retry() {
  say("Not live: reload to see changes", "off");
  const answer = await fetch("/.0trust/me").catch(() => null);
  if (answer?.status === 401) location.reload();
  else timer = setTimeout(connect, RETRY);
}

function connect() {
  clearTimeout(timer);
  if (source || document.hidden) return;
  source = new EventSource(location.pathname + location.search);
  source.addEventListener("open", () => say("Live", "live"));
  source.addEventListener("changed", async (event) => {
    for (const [name, version] of Object.entries(JSON.parse(event.data))) {
      await refresh(name, version).catch(() => {});
    }
  });
  source.addEventListener("ended", () => location.reload());
  source.addEventListener("error", () => {
    if (source?.readyState !== EventSource.CLOSED) return;
    source = null;
    retry();
  });
}

function disconnect() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

if (live) {
  connect();
  // A page that no one sees costs the server nothing.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
}

// A page from the cache for "back" may show what is gone.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

for (const element of document.querySelectorAll("[data-copied]")) {
  element.addEventListener("focus", () => element.select());
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).value;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select the text, and copy it";
    }
  });
}

localise(document);
