"""Configuration that all workers of a server run with: the last one that their parent accepted.

The parent writes the contents of its files into a file without a name, which each worker inherits.
So a worker that is started again has the settings of the others, whatever the files hold by then.
The contents may be secret: where the system can, the file is in memory only.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from zerotrust.errors import SetupError
from zerotrust.model.database import DatabaseConfig

_DIGEST_BYTES: Final = 32
_LENGTH_BYTES: Final = 8
READ_TIMEOUT: Final = 5.0
"""Seconds that a worker waits for a text that its parent is writing."""
_READ_PAUSE: Final = 0.005


@dataclass(frozen=True, slots=True)
class ConfigText:
    """A configuration as text.

    Attributes:
        contents: contents of its files, by path.
        state: the database and the folder of sockets, which stay while the parent runs.
    """

    contents: Mapping[str, bytes] = field(repr=False)
    state: DatabaseConfig

    def encode(self, number: int) -> bytes:
        """Return the text for the file."""
        url = self.state.url
        state = {"dir": self.state.dir, "url": None if url is None else url.get_secret_value()}
        files = {name: data.decode("latin-1") for name, data in self.contents.items()}
        return json.dumps({"number": number, "state": state, "files": files}).encode()

    @classmethod
    def decode(cls, said: Mapping[str, Any]) -> Self:
        """Return the text that `encode` has written."""
        files = {name: text.encode("latin-1") for name, text in said["files"].items()}
        return cls(files, DatabaseConfig.model_validate(said["state"]))


class AcceptedConfig:
    """The accepted configuration, which the parent writes and the workers read.

    Args:
        descriptor: of the file.

    Attributes:
        number: of the text that was written or read last; each has another one than the one before.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.number = 0

    @classmethod
    def create(cls) -> Self:
        """Return one without a text. The parent closes it.

        Raises:
            SetupError: the file cannot be made.
        """
        try:
            if hasattr(os, "memfd_create"):
                return cls(os.memfd_create("0trust-config"))
            with tempfile.TemporaryFile() as file:
                return cls(os.dup(file.fileno()))
        except OSError as error:
            raise SetupError(f"cannot keep the configuration for workers: {error}") from error

    @property
    def mark(self) -> bytes:
        """Return the byte that stands for `number` in messages of a worker."""
        return bytes([self.number % 256])

    def write(self, text: ConfigText) -> None:
        """Replace the text.

        Raises:
            SetupError: it cannot be written.
        """
        data = text.encode(self.number + 1)
        head = hashlib.sha256(data).digest() + len(data).to_bytes(_LENGTH_BYTES, "big")
        try:
            if os.pwrite(self.descriptor, head + data, 0) < len(head) + len(data):
                raise OSError("no space left")
        except OSError as error:
            raise SetupError(f"cannot keep the configuration for workers: {error}") from error
        self.number += 1

    def read(self) -> ConfigText:
        """Return the text. Call it in a thread: it may wait until the parent has written it.

        Raises:
            SetupError: there is none.
        """
        ends_at = time.monotonic() + READ_TIMEOUT
        while (data := self._read()) is None:
            if time.monotonic() > ends_at:
                raise SetupError("the parent of this worker has not written its configuration")
            time.sleep(_READ_PAUSE)
        said = json.loads(data)
        self.number = said["number"]
        return ConfigText.decode(said)

    def close(self) -> None:
        """Close the file."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _read(self) -> bytes | None:
        """Return the text; None while the parent is writing it."""
        try:
            head = os.pread(self.descriptor, _DIGEST_BYTES + _LENGTH_BYTES, 0)
            size = int.from_bytes(head[_DIGEST_BYTES:], "big")
            data = os.pread(self.descriptor, min(size, 2**31 - 1), len(head))
        except OSError as error:
            raise SetupError(f"the configuration of this worker is unreadable: {error}") from error
        complete = len(head) == _DIGEST_BYTES + _LENGTH_BYTES
        return data if complete and hashlib.sha256(data).digest() == head[:_DIGEST_BYTES] else None
