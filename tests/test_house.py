"""Rules of the code base: test files, names, docstrings, documents."""

import ast
import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import uvloop

import hatch_build

# They parse all files: for a minute on a busy machine, and in one process, or each does so.
pytestmark = [pytest.mark.timeout(90), pytest.mark.xdist_group("house")]

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "zerotrust"
OUTSIDE = ("benchmarks", "scripts")
"""Packages at the root, whose tests stand in folders of their names."""
UNIT = ROOT / "tests" / "unit"
BESIDE = ("tests", "demo", "benchmarks", "scripts", "fuzz", "compliance")
"""Folders with code outside the package."""

DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted([*DOCS.glob("*.md"), *DOCS.glob("howto/*.md"), *DOCS.glob("spec/*.md")]),
]
GENERATED = sorted(DOCS.glob("reference/*.md"))

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc", "manager"}


@cache
def syntax(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text())


def modules(top: Path) -> set[Path]:
    return {
        path.relative_to(top)
        for path in top.rglob("*.py")
        if path.name not in ("__init__.py", "conftest.py")
    }


def test_every_unit_test_file_mirrors_a_source_file() -> None:
    sources = modules(SOURCE).union(
        *({name / path for path in modules(ROOT / name)} for name in map(Path, OUTSIDE))
    )
    strays = {
        test
        for test in modules(UNIT)
        if test.name.startswith("test_")
        and test.with_name(test.name.removeprefix("test_")) not in sources
    }
    assert not strays


def test_every_machine_has_a_test_file() -> None:
    machines = {
        path
        for room in ("tunnel", "http", "model", "config", "pki")
        for path in modules(SOURCE)
        if path.parts[0] == room
    }
    tested = {test.with_name(test.name.removeprefix("test_")) for test in modules(UNIT)}
    untested = {
        m
        for m in machines - tested
        if any(isinstance(n, ast.FunctionDef) for n in ast.walk(syntax(SOURCE / m)))
    }
    assert not untested


def test_no_module_has_a_vague_name() -> None:
    assert not {path for path in modules(SOURCE) if set(path.with_suffix("").parts) & VAGUE_NAMES}


def test_every_module_says_what_it_is() -> None:
    silent = {path for path in SOURCE.rglob("*.py") if not ast.get_docstring(syntax(path))}
    assert not silent


QUESTIONS = re.compile(r"(What|How|Where|Who|Whose|Whom|Whether|When|Which|Why|Of|So)\b")


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring of a module, its classes and its functions."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(syntax(path)):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), text


def test_no_docstring_opens_with_a_question_word() -> None:
    folders = (SOURCE, *(ROOT / name for name in BESIDE))
    assert not [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
        for line, text in docstrings(path)
        if QUESTIONS.match(text)
    ]


def test_no_public_class_name_stands_twice() -> None:
    places: dict[str, list[str]] = {}
    for module in modules(SOURCE):
        for node in syntax(SOURCE / module).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(module))
    assert not {name: found for name, found in places.items() if len(found) > 1}


SAME_CONCEPT = {
    "access_tokens": "decisions, their use",
    "access": "rules in the file, commands about them",
    "access_log": "settings, the writer",
    "access_admin": "the API of the server about access, its models",
    "admin": "the API of the server, its models, and Caddy's API",
    "agent": "settings, commands",
    "agents": "rows of agents, commands about agents",
    "app": "the two programs",
    "audit": "records, use, commands",
    "ca": "the authority, its commands",
    "capture_admin": "the API of the server about captures, its models",
    "captures": "captures, commands about them",
    "certificate_orders": "rows, turns of a server",
    "database": "the database, its settings",
    "doctor": "findings, the command",
    "errors": "the tree of errors, errors of the database",
    "expired_renewal": "both ends of one exchange",
    "grants": "rows, decisions, commands",
    "identity_keys": "rows of public keys, the keys of a server",
    "join": "the agent's end, decision, command",
    "jwks": "JWKS documents of others that the agent fetches, the server's own",
    "metrics": "metrics of each part, their settings",
    "pins": "decisions, commands",
    "policy": "a policy as data and as middleware",
    "refusals": "of agents, of people",
    "server": "settings, commands",
    "session": "the session of the tunnel and its owner at each end",
    "share_links": "decisions, their use",
    "sign_ins": "decisions, their use",
    "status": "status of an agent, its model",
    "tables": "tables of the database, tables in the terminal",
    "tokens": "rows, decisions, commands",
    "traffic_admin": "the API of the server about traffic, its models",
    "users": "decisions, commands",
    "tracing": "settings, the tracer",
}
"""File names that stand in several rooms, because they are about one concept."""


def test_files_of_one_name_are_about_one_concept() -> None:
    places: dict[str, list[str]] = {}
    for module in modules(SOURCE):
        places.setdefault(module.stem, []).append(str(module))
    found = {name: where for name, where in places.items() if len(where) > 1}
    assert not {name: where for name, where in found.items() if name not in SAME_CONCEPT}


BANNED = re.compile(
    r"\b((?<!allow: )(?<!\A)nobody|such an?|the original|so many|the one that|whoever)\b",
    re.IGNORECASE,
)


def test_users_read_no_riddles() -> None:
    """Strings other than docstrings are what users read: messages, logs, help, pages."""

    def strings(path: Path) -> Iterator[tuple[int, str]]:
        tree = syntax(path)
        documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or node in documentation:
                continue
            if isinstance(node.value, str):
                yield node.lineno, node.value

    assert not [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted(SOURCE.rglob("*.py"))
        for line, text in strings(path)
        if BANNED.search(text)
    ]


PRIVATE = {
    ("test_channel.py", "_out"): "the memory of the chunks, which no behaviour shows",
    ("test_fair_queue.py", "_agents"): "an agent that waits no more must leave no entry",
    ("test_frames.py", "_complete"): "the memory of this step alone",
    ("test_outbox.py", "_direct"): "the bound on frames that pass the scheduler",
    ("test_outbox.py", "_out"): "the memory of the chunks, which no behaviour shows",
    ("test_policy_quota.py", "_policies"): "an agent without policies must leave no entry",
    ("test_policy_quota.py", "_sums"): "an agent without policies must leave no entry",
    ("test_resume.py", "_writes"): "what is kept must be the object that was written, no copy",
    ("test_session_control.py", "_add"): "reasons longer than any that the registrar makes",
    ("test_shaping.py", "_loop"): "the compiled ingress takes its loop from asyncio",
}
"""Private names of the package that a test file uses, and why no public one would do."""


def private_names(path: Path) -> Iterator[str]:
    """Yield the private names that a file takes from other objects, also by `setattr`."""
    for node in ast.walk(syntax(path)):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls" | "os")):
                continue
            case ast.Attribute(attr=name):
                yield name
            case ast.ImportFrom(names=names):
                yield from (alias.name for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="setattr" | "delattr") | ast.Name(id="setattr" | "getattr"),
                args=arguments,
            ):
                for argument in arguments:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield argument.value.rpartition(".")[2]


def test_tests_use_the_public_names_of_the_package() -> None:
    defined = {
        name
        for folder in (SOURCE, *map(ROOT.joinpath, OUTSIDE))
        for path in folder.rglob("*.py")
        for name in re.findall(
            r"(?:\bdef |\bclass |\bself\.|^)(_[A-Za-z]\w*)", path.read_text(), re.MULTILINE
        )
    }
    reached = {
        (path.name, name)
        for folder in BESIDE
        for path in (ROOT / folder).rglob("*.py")
        for name in private_names(path)
        if name in defined
    }
    assert reached == set(PRIVATE)


def test_package_files_only_hand_on_names() -> None:
    for path in SOURCE.rglob("__init__.py"):
        body = syntax(path).body
        assert all(
            isinstance(node, (ast.Expr, ast.Assign, ast.Import, ast.ImportFrom)) for node in body
        ), path


def named_tests(text: str) -> Iterator[tuple[str, Path, str]]:
    """Yield the tests that a text names: the name as it stands, its file, and its function.

    A name is a path below `tests`, with or without `::function`; `::function` alone is in the file
    that was named last.
    """
    path = None
    for name in re.findall(r"`([^`]+)`", text):
        file, _, test = name.rpartition("::") if "::" in name else (name, "", "")
        path = ROOT / "tests" / file if file else path
        if path is None or path.suffix != ".py" or "test_" not in path.name:
            continue
        yield name, path, test


def check_named_tests(text: str) -> None:
    for name, path, test in named_tests(text):
        assert path.is_file(), name
        assert not test or re.search(
            rf"(def|class) {test}\b|^{test} =", path.read_text(), re.MULTILINE
        ), name


def test_each_promise_of_the_security_page_names_a_test_that_exists() -> None:
    said = (ROOT / "docs" / "security.md").read_text()
    promises = said.partition("## Isolation: what is promised")[2].partition("\n## ")[0]
    check_named_tests(promises)


def test_each_pitfall_of_access_names_a_test_that_exists() -> None:
    said = (ROOT / "docs" / "access-pitfalls.md").read_text()
    check_named_tests(said)
    rows = [line for line in said.splitlines() if line.startswith("| ") and "| --- " not in line]
    untested = [row for row in rows if "| test |" not in row and not [*named_tests(row)]]
    assert len(rows) > 30
    assert not untested


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a page that are not in a code block."""
    fenced, blank, code = False, True, False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            indented = line.startswith("    ") and not re.match(r" +([-*]|\d+\.) ", line)
            code = indented and (blank or code)
            if not code:
                yield number, line
        blank = not line.strip()


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = [line.lstrip("# ") for _, line in prose(page) if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_wrap_at_120_columns(page: Path) -> None:
    long = [
        f"{page.name}:{number}"
        for number, line in prose(page)
        if not line.startswith("|") and len(re.sub(r"https?://[^\s)]+", "", line)) > 120
    ]
    assert not long


@pytest.mark.parametrize("page", [*PAGES, *GENERATED], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_exist(page: Path) -> None:
    text = re.sub(r"`[^`]*`", "", "\n".join(line for _, line in prose(page)))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", ["architecture.md", "decisions.md", "security-review.md"])
def test_pages_for_developers_name_modules_that_exist(page: str) -> None:
    """A name like `net.tls` is a module, one that it defines, or a configuration key."""
    keys = "".join(reference.read_text() for reference in GENERATED)
    for name in re.findall(r"`((?:\w+\.)+\w+)`", (DOCS / page).read_text()):
        *packages, last = name.split(".")
        if not (SOURCE / packages[0]).is_dir() or f"`{last}`" in keys:
            continue
        module = SOURCE.joinpath(*packages)
        path = module / last if module.is_dir() else module
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
        assert module.is_dir() or re.search(
            rf"\b{last}\b", module.with_suffix(".py").read_text()
        ), name


def test_a_compiled_module_that_moves_is_missed(tmp_path: Path) -> None:
    package = tmp_path / "zerotrust"
    shutil.copytree(SOURCE, package)
    assert hatch_build.interpreted_modules(package) == hatch_build.data_path(package)
    for path in hatch_build.data_path(package):
        path.with_name(path.stem + sysconfig.get_config_var("EXT_SUFFIX")).touch()
    assert not hatch_build.interpreted_modules(package)
    ingress = package / "server" / "proxy" / "ingress.py"
    ingress.rename(ingress.with_name("entrance.py"))
    with pytest.raises(FileNotFoundError, match=r"server/proxy/ingress\.py"):
        hatch_build.data_path(package)


def test_tests_with_real_processes_say_how_long_they_may_take() -> None:
    """Else it is the time of a unit test, which a dozen commands outlast while other tests run
    beside them."""
    started = [
        path
        for room in ("component", "browser")
        for path in (ROOT / "tests" / room).glob("test_*.py")
    ]
    assert started
    assert not {path.name for path in started if "pytest.mark.timeout(" not in path.read_text()}


def pytest_of_its_own(folder: Path) -> str:
    """Run the tests in `folder` in two processes; return the output of pytest."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-n",
        "2",
        "--dist",
        "loadgroup",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-p", "tests.conftest", "-o", "timeout_method=thread", "-o", f"pythonpath={ROOT}"]
    # What runs these tests says to a process of its own that it is a worker of that one.
    # Nothing of the package runs in it, so that it needs no coverage either.
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "COVERAGE_"))
    }
    clean["PYTHONPATH"] = str(ROOT)
    clean["TEARDOWN_SECONDS"] = "5"
    said = subprocess.run(
        command, check=False, cwd=folder, env=clean, capture_output=True, text=True, timeout=240
    )
    return said.stdout + said.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_group_of_tests_stays_in_one_process(tmp_path: Path) -> None:
    """Else each process starts what the tests of a module share: most of the time of the
    component tests."""
    (tmp_path / "test_group.py").write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.xdist_group('one')\n"
        "@pytest.mark.parametrize('number', range(8))\n"
        "def test_it(number): pass\n"
    )
    said = pytest_of_its_own(tmp_path)
    workers = re.findall(r"\[(gw\d)\] .*PASSED", said)
    assert len(workers) == 8
    assert len(set(workers)) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_test_that_does_not_end_costs_no_other(tmp_path: Path) -> None:
    """It ends its process: what that had finished is not run again, what it had not yet is, and
    the run ends."""
    (tmp_path / "test_hang.py").write_text(
        "import asyncio, time, pytest\n"
        "@pytest.mark.parametrize('number', range(20))\n"
        "def test_well(number): time.sleep(0.02)\n"
        "@pytest.mark.timeout(2)\n"
        "def test_blocks(): time.sleep(300)\n"
        "@pytest.fixture\n"
        "async def stuck(anyio_backend): await asyncio.sleep(300)\n"
        "@pytest.mark.anyio\n"
        "@pytest.mark.timeout(6)\n"
        "async def test_is_not_set_up(stuck): pass\n"
        "@pytest.mark.anyio\n"
        "@pytest.mark.timeout(9)\n"
        "async def test_waits(): await asyncio.sleep(300)\n"
        "@pytest.fixture\n"
        "def stuck_at_the_end():\n"
        "    yield\n"
        "    time.sleep(300)\n"
        "def test_fails_and_hangs(stuck_at_the_end): assert 1 == 2\n"
        "def test_last(): pass\n"
    )
    said = pytest_of_its_own(tmp_path)
    assert "5 failed, 21 passed" in said, said
    assert "the teardown of test_hang.py::test_fails_and_hangs does not end" in said
    assert "test_hang.py::test_blocks does not end" in said
    assert re.search(r"test_hang.py:7 in stuck\n", said)
    assert re.search(r"test_hang.py::test_waits\S* - TimeoutError", said)


def test_a_connection_that_a_test_leaves_open_does_not_block_the_end_of_its_loop() -> None:
    """uvloop 0.23 leaves a handle open whose warning is an error, and waits for it for ever."""

    async def leave_open() -> None:
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, *address)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        loop = uvloop.new_event_loop()
        loop.run_until_complete(leave_open())
        with warnings.catch_warnings(record=True) as told:
            closing = threading.Thread(target=loop.close, daemon=True)
            closing.start()
            closing.join(20)
            assert not closing.is_alive(), "the loop does not end"
    assert "TCPTransport" in str(told[0].message)
