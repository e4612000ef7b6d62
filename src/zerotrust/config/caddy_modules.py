"""The original's server of its second form, a Caddy with modules of its own: its Caddyfile, made into our keys.

`zerotrust_agents`, a global option, is where agents connect; the site that has `zerotrust_router` is what 0Trust
serves. Of that site all must be known: what is not could be what keeps somebody out, so it is an error. Other sites are
no affair of 0Trust, which is said, as it gives Caddy a configuration of its own. A site that does nothing but redirect
to https is what happens anyway.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from zerotrust.config import caddyfile
from zerotrust.config.caddyfile import Directive, Word
from zerotrust.config.diagnostics import KeyPath, Severity, suggestion
from zerotrust.config.yaml_text import Document, SourcePosition
from zerotrust.model.base import parse_duration

ROUTER: Final = "zerotrust_router"
AGENTS: Final = "zerotrust_agents"

NAMES: Final[Mapping[str, str]] = {
    f"{AGENTS}.listen": "server.listen_addr",
    f"{AGENTS}.cert_file": "server.cert_file",
    f"{AGENTS}.key_file": "server.key_file",
    f"{AGENTS}.ca_file": "server.ca_file",
    f"{AGENTS}.check_addr": "caddy.permission_addr",
    "acme_ca": "caddy.acme.ca_url",
    "default_bind": "caddy.bind",
    "email": "caddy.acme.email",
    "http_port": "caddy.http_port",
    "https_port": "caddy.https_port",
    "storage file_system": "caddy.storage_dir",
}
"""Global options of the Caddyfile, and what they are called here."""

WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "admin": "the server's own Caddy has a socket in caddy.config_dir",
    "on_demand_tls": "Caddy asks the server itself, at caddy.permission_addr",
    f"{ROUTER}.request_timeout": "a service's timeout holds, two minutes where it has none",
}
"""Directives without counterpart, and why."""

NOT_TAKEN: Final = "has no effect: 0Trust gives Caddy a configuration of its own (0trust caddy render shows it)"
NOT_KEPT: Final = (
    "is not known here and could decide who gets in: write it into the agent's file (routes, security), or keep a "
    "Caddy of your own in front (caddy.mode: none), and remove it"
)
_FOREIGN: Final = (
    "a site without zerotrust_router, which has no effect here: keep it in a Caddy of your own (caddy.mode: none)"
)
OVER_HTTP: Final = "counts only for services that say http_redirect: false or listen_on: http in the agent's file"
_IMPORT: Final = "is not followed; write here what stands there"
_PRESENTATION: Final = ("encode", "log", "log_skip", "log_append", "log_name", "header", "metrics", "tracing")
_AROUND: Final = ("route", "handle")
_CHECK_PATH: Final = "/zero-trust/check-domain"


def is_caddyfile(path: Path) -> bool:
    """By its name, as Caddy does it."""
    return path.name.startswith("Caddyfile") or path.suffix.lower() == ".caddyfile"


def read(text: str, variables: Mapping[str, str]) -> Document:
    """A server's configuration from a Caddyfile. Never raises: what is wrong is in `faults`."""
    document = Document()
    try:
        tops = caddyfile.parse(text, variables)
    except caddyfile.MalformedError as error:
        document.faults.append((error.at, (), str(error)))
        return document
    if tops:
        document.data = {"server": {}, "caddy": {}}
        _Translation(document).all(tops)
    return document


class _Translation:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._has_agents = self._has_router = False

    def all(self, tops: list[Directive]) -> None:
        for top in tops:
            if not top.words:
                for option in top.block or ():
                    self._global(option)
            elif top.name == "import":
                self._say(self._place(top, ()), "error", _IMPORT)
            elif top.name.startswith(("(", "&(")):
                self._say(self._place(top, ()), "warning", f"a snippet {NOT_TAKEN}")
            else:
                self._site(top)
        for name, there in ((AGENTS, self._has_agents), (ROUTER, self._has_router)):
            if not there:
                self._say((), "error", f"there is no {name} in it: this is not the Caddyfile of a 0Trust server")

    # ---- global options

    def _global(self, option: Directive) -> None:
        path = self._place(option, ())
        if option.name == "import":
            self._say(path, "error", _IMPORT)
        elif option.name == AGENTS:
            self._has_agents = True
            for key in option.block or ():
                self._agents(key, path)
        elif option.name == "storage":
            self._storage(option, path)
        elif option.name == "default_bind":
            self._set("caddy.bind", path, option.arguments)
        elif option.name == "debug":
            self._set("caddy.logging.level", path, "DEBUG")
        elif option.name in NAMES:
            self._one(option, path, NAMES[option.name])
        elif option.name in WITHOUT_EFFECT:
            if not (option.name == "on_demand_tls" and _asks_us(option)):
                self._say(path, "warning", f"has no effect: {WITHOUT_EFFECT[option.name]}")
        else:
            self._say(path, "warning", NOT_TAKEN)

    def _agents(self, key: Directive, around: KeyPath) -> None:
        path = self._place(key, around)
        name = f"{AGENTS}.{key.name}"
        if name in NAMES:
            self._one(key, path, NAMES[name])
        else:
            known = [name.removeprefix(f"{AGENTS}.") for name in NAMES if name.startswith(AGENTS)]
            self._say(path, "error", f"is no option of {AGENTS}{suggestion(key.name, known)}")

    def _storage(self, option: Directive, path: KeyPath) -> None:
        roots = [key.arguments for key in option.block or () if key.name == "root"] or [option.arguments[1:]]
        if option.arguments[:1] == ["file_system"] and len(roots[0]) == 1:
            self._set("caddy.storage_dir", path, roots[0][0])
        else:
            self._say(path, "error", "only file_system and a folder are known here: certificates are kept in files")

    # ---- sites

    def _site(self, site: Directive) -> None:
        path = self._place(site, ())
        block = site.block or []
        if not any(_names(block, ROUTER)):
            if block and all(_is_redirect(directive) for directive in block):
                self._ports(site, path)
            else:
                self._say(path, "warning", _FOREIGN)
            return
        self._has_router = True
        self._ports(site, path, served=True)
        for directive in block:
            self._served(directive, path)

    def _served(self, directive: Directive, around: KeyPath) -> None:
        """A directive of the site that 0Trust serves."""
        path = self._place(directive, around)
        name = directive.name
        if name in _AROUND and not directive.arguments:
            for inner in directive.block or ():
                self._served(inner, path)
        elif name == ROUTER and not directive.arguments:
            for key in directive.block or ():
                self._router(key, path)
        elif name == "tls":
            self._tls(directive, path)
        elif name == "bind":
            self._set("caddy.bind", path, directive.arguments)
        elif name == "import":
            self._say(path, "error", _IMPORT)
        elif name in _PRESENTATION:
            self._say(path, "warning", NOT_TAKEN)
        else:
            self._say(path, "error", NOT_KEPT)

    def _router(self, key: Directive, around: KeyPath) -> None:
        path = self._place(key, around)
        if key.name != "request_timeout":
            self._say(path, "error", f"is no option of {ROUTER}{suggestion(key.name, ['request_timeout'])}")
        elif not _is_two_minutes(key.arguments):
            self._say(path, "warning", f"has no effect: {WITHOUT_EFFECT[f'{ROUTER}.request_timeout']}")

    def _tls(self, directive: Directive, path: KeyPath) -> None:
        arguments = directive.arguments
        if len(arguments) > 1:
            self._certificate(path, arguments)
        elif arguments == ["internal"]:
            self._say(path, "warning", NOT_TAKEN)
        elif arguments:
            self._set("caddy.acme.email", path, arguments[0])
        for key in directive.block or ():
            inner = self._place(key, path)
            if key.name == "ca":
                self._one(key, inner, "caddy.acme.ca_url")
            elif key.name in ("client_auth", "protocols", "ciphers", "curves", "load", "get_certificate", "import"):
                self._say(inner, "error", NOT_KEPT)
            elif key.name != "on_demand":
                self._say(inner, "warning", NOT_TAKEN)

    def _certificate(self, path: KeyPath, files: list[str]) -> None:
        own = self._document.data["caddy"].setdefault("certificates", [])
        new: KeyPath = ("caddy", "certificates", len(own))
        own.append(dict(zip(("cert_file", "key_file"), files, strict=False)))
        self._document.renamed[new] = path
        self._document.places[new] = self._document.places[path]

    def _ports(self, site: Directive, path: KeyPath, *, served: bool = False) -> None:
        secured = any(_names(site.block or [], "tls"))
        for word in site.words:
            scheme, _, rest = word.text.rpartition("://")
            host, _, port = rest.partition("/")[0].rpartition(":") if ":" in rest else (rest, "", "")
            if port and not port.isdigit():
                self._say(path, "error", f'the address "{word.text}" has no valid port; write :443')
                continue
            https = scheme == "https" if scheme else port in ("", "443") or (secured and port != "80")
            if not https and served:
                self._say(path, "warning", OVER_HTTP)
            if port:
                self._set(f"caddy.http{'s' if https else ''}_port", path, int(port))
            if host:
                self._say(path, "warning", f"{host} restricts nothing: every host name that agents offer is served")

    # ---- what was found

    def _place(self, directive: Directive, around: KeyPath) -> KeyPath:
        """The path by which a directive is called, which is then known with its place."""
        path: KeyPath = (*around, directive.name)
        number = 1
        while path in self._document.places:
            number += 1
            path = (*around, f"{directive.name}#{number}")
        value: Word = directive.words[min(1, len(directive.words) - 1)]
        text = " ".join(directive.arguments) if directive.block is None else None
        self._document.places[path] = SourcePosition(directive.at, value.at, text)
        return path

    def _one(self, directive: Directive, path: KeyPath, name: str) -> None:
        if len(directive.arguments) == 1 and not directive.block:
            self._set(name, path, directive.arguments[0])
        else:
            self._say(path, "error", f"takes one value, found {len(directive.arguments)}")

    def _set(self, name: str, path: KeyPath, value: Any) -> None:
        new: KeyPath = tuple(name.split("."))
        section = self._document.data
        for step in new[:-1]:
            section = section.setdefault(step, {})
        if section.setdefault(new[-1], value) != value:
            self._say(path, "error", f"is given twice: {name} is {section[new[-1]]} already; keep one")
        elif new not in self._document.renamed:
            self._document.renamed[new] = path
            self._document.places[new] = self._document.places[path]

    def _say(self, path: KeyPath, severity: Severity, message: str) -> None:
        self._document.remarks.append((path, severity, message))


def _names(block: list[Directive], name: str) -> Iterator[Directive]:
    """The directives of this name, at any depth."""
    for directive in block:
        if directive.name == name:
            yield directive
        yield from _names(directive.block or [], name)


def _is_redirect(directive: Directive) -> bool:
    """A matcher, or a redirect to the same place over https."""
    if directive.name.startswith("@"):
        return True
    target = next((word for word in directive.arguments if "://" in word), "")
    return directive.name == "redir" and target in ("https://{host}{uri}", "https://{http.request.host}{uri}")


def _asks_us(option: Directive) -> bool:
    return all(
        key.name == "ask" and len(key.arguments) == 1 and key.arguments[0].endswith(_CHECK_PATH)
        for key in option.block or ()
    )


def _is_two_minutes(arguments: list[str]) -> bool:
    try:
        return len(arguments) == 1 and parse_duration(arguments[0]) == 120
    except ValueError:
        return False
