"""Small C libraries that are loaded into programs before their own (`LD_PRELOAD`)."""

import os
import shutil
import subprocess
from pathlib import Path


def build(name: str, folder: Path) -> Path:
    """Compile `name` of this folder into `folder`; return the library.

    Needs a C compiler, as the compiled package does. Several processes may build one at once.
    """
    compiler = shutil.which("cc")
    assert compiler, "the tests need a C compiler: apt-get install gcc"
    source = Path(__file__).with_name(name)
    library = folder / f"{source.stem}.so"
    unfinished = folder / f"{source.stem}.{os.getpid()}.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", unfinished, source], check=True
    )
    unfinished.replace(library)
    return library
