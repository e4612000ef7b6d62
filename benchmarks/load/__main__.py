"""`python -m benchmarks.load`: reads jobs from standard input, one per line, and answers each.

With `--gives-way` it runs only where no other process wants the processor (SCHED_IDLE; Linux only).
"""

import asyncio
import json
import os
import sys

from benchmarks.load.jobs import GIVES_WAY, Job
from benchmarks.load.work import Worker
from zerotrust.net.loop import run


async def serve() -> None:
    """Run jobs until the input ends."""
    if GIVES_WAY in sys.argv and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    lines = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer
    )
    worker = Worker()
    while line := await lines.readline():
        sys.stdout.buffer.write(await answer(worker, line))
        sys.stdout.buffer.flush()


async def answer(worker: Worker, line: bytes) -> bytes:
    """Run the job of a line; return the line with its outcome."""
    try:
        return (await worker.do(Job.decode(line))).encode()
    except Exception as error:  # noqa: BLE001 - whatever it is, the one who asked is told
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        return json.dumps({"error": str(cause) or type(cause).__name__}).encode() + b"\n"


if __name__ == "__main__":
    run(serve())
