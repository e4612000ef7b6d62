"""The container image, built by Docker or Podman, or its steps run on this machine."""

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import ROOT, Process

DOCKERFILE = ROOT / "Dockerfile"
CHANGES_THE_MACHINE = ("apt-get ", "useradd ")
"""RUN commands that need the image's own file system; the local run skips them."""
PIP = re.compile(r"python -m pip --python (\S+) install")
UV = Path(sys.executable).with_name("uv")


@dataclass(frozen=True)
class Step:
    """One instruction of a Dockerfile."""

    instruction: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments, written as JSON or separated by spaces."""
        text = self.text
        if text.startswith("["):
            words: list[str] = json.loads(text)
            return words
        return shlex.split(text)

    @property
    def sources(self) -> list[str]:
        """Paths of the build context that a COPY step copies."""
        return [] if self.words[0].startswith("--from=") else self.words[:-1]


def parse(text: str) -> list[Step]:
    """Return the instructions of a Dockerfile; continued lines are joined, comments dropped."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def health_command(steps: Sequence[Step]) -> list[str]:
    """Return the command of HEALTHCHECK, which is written as JSON."""
    (check,) = [step for step in steps if step.instruction == "HEALTHCHECK"]
    command: list[str] = json.loads(check.text.partition("CMD ")[2])
    return command


def find_builder() -> str | None:
    """Return the program that can build images here and run them."""
    for name in ("docker", "podman"):
        if (
            shutil.which(name)
            and subprocess.run([name, "info"], check=False, capture_output=True).returncode == 0
        ):
            return name
    return None


class BuiltImage:
    """The image as a builder makes it."""

    def __init__(self, builder: str, tag: str = "0trust-test") -> None:
        self._builder, self._tag = builder, tag
        subprocess.run([builder, "build", "--tag", tag, ROOT], check=True)

    def run(self, name: str, folder: Path, words: Sequence[str]) -> list[str]:
        """Return the command that runs `words` in a new container with `folder` as /config."""
        options = ["--name", name, "--network", "host", "--user", f"{os.getuid()}:{os.getgid()}"]
        options += ["--volume", f"{folder}:/config", "--interactive"]
        if self._builder == "podman":
            options.append("--userns=keep-id")
        return [self._builder, "run", "--rm", *options, self._tag, *words]

    def check_health(self, name: str, folder: Path) -> list[str]:
        """Return the command that runs the health check in that container."""
        return [self._builder, "exec", name, *health_command(parse(DOCKERFILE.read_text()))]

    @property
    def environment(self) -> Mapping[str, str]:
        return os.environ


class ScriptedImage:
    """The result of the Dockerfile's steps below a local folder, without a container.

    uv installs in place of pip: it takes the packages from its cache, in a tenth of the time.
    """

    def __init__(self, folder: Path, arguments: Mapping[str, str]) -> None:
        self._steps = parse(DOCKERFILE.read_text())
        self._folder = folder
        self.environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self._directory = folder
        for step in self._steps:
            self._follow(step, arguments)

    def run(self, name: str, folder: Path, words: Sequence[str]) -> list[str]:
        """Return the command that runs `words` with `folder` as /config."""
        (entrypoint,) = [step.words for step in self._steps if step.instruction == "ENTRYPOINT"]
        program = shutil.which(entrypoint[0], path=self.environment["PATH"])
        assert program, entrypoint
        return [program, *entrypoint[1:], *(self._placed(word, folder) for word in words)]

    def check_health(self, name: str, folder: Path) -> list[str]:
        """Return the command of the health check."""
        return [self._placed(word, folder) for word in health_command(self._steps)]

    def _follow(self, step: Step, arguments: Mapping[str, str]) -> None:
        text = self._placed(step.text)
        if step.instruction == "RUN" and not step.text.startswith(CHANGES_THE_MACHINE):
            command = PIP.sub(rf"{UV} pip install --quiet --python \1", text)
            subprocess.run(
                ["sh", "-ec", command], check=True, cwd=self._directory, env=self.environment
            )
        elif step.instruction == "COPY":
            for source in step.sources:
                self._copy(source, step.words[-1])
        elif step.instruction == "WORKDIR":
            self._directory = Path(text)
            self._directory.mkdir(parents=True, exist_ok=True)
        elif step.instruction in ("ARG", "ENV"):
            name, _, value = text.partition("=")
            self.environment[name] = arguments.get(
                name, string.Template(value).substitute(self.environment)
            )

    def _copy(self, source: str, target: str) -> None:
        path, place = ROOT / source, self._directory / target
        if path.is_dir():
            shutil.copytree(
                path,
                place,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("__pycache__", "*.so"),
            )
            return
        place = place / path.name if target.endswith("/") else place
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)

    def _placed(self, text: str, config: Path | None = None) -> str:
        """Return the text with the image's own folders below ours."""
        places = {"/opt/0trust": self._folder / "opt", "/src": self._folder / "src"}
        places["/config"] = config or self._folder / "config"
        return re.sub(
            r"(?<![\w./])(/opt/0trust|/src|/config)\b", lambda match: str(places[match[0]]), text
        )


Image = BuiltImage | ScriptedImage


class Container:
    """One role in the image, with a folder of its own as /config."""

    def __init__(self, image: Image, name: str, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self._image = image
        self._name = f"0trust-test-{name}-{os.getpid()}"

    def call(self, *words: str, stdin: str = "") -> str:
        """Return the output of a command that ends."""
        done = subprocess.run(
            self._image.run(f"{self._name}-call", self.folder, words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self._image.environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def process(self, *words: str) -> Process:
        """Return the process of a command that stays."""
        environment = {"PYTHONPATH": "", **self._image.environment}
        return Process(
            self._name,
            self._image.run(self._name, self.folder, words),
            log=self.log,
            env=environment,
        )

    def check(self) -> subprocess.CompletedProcess[str]:
        """Run the health check of the image."""
        command = self._image.check_health(self._name, self.folder)
        environment = self._image.environment
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=60, env=environment
        )

    @property
    def is_healthy(self) -> bool:
        return self.check().returncode == 0
