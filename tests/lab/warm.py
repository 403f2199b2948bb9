"""A Python that has imported already, and runs pieces of source, each in a process of its own.

    with WarmPython([sys.executable, FORKS]) as python:
        assert python.run("import tklb.cli.main; answer = values['n'] + 1", n=1).answer == 2

Imports take longer than most of what tests run. Takes a command that runs `forks.py` somewhere; touches what a source
touches.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

FORKS = Path(__file__).with_name("forks.py")


class Ended(NamedTuple):
    """How a process ended: negative where a signal ended it."""

    status: int
    stdout: str
    stderr: str
    answer: Any


class WarmPython:
    """One process at a time. `popen` starts the command, and is `subprocess.Popen` or that of a box."""

    def __init__(
        self, command: Sequence[str | Path], popen: Callable[..., Any] = subprocess.Popen, **options: Any
    ) -> None:
        options |= {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
        self._process: subprocess.Popen[bytes] = popen(command, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def run(self, source: str, *, stdin: str = "", timeout: float = 300, **values: object) -> Ended:
        """Run `source` with `values` (a dict) at hand; give what it set as `answer`, which JSON can carry."""
        assert self._process.stdin is not None
        question = json.dumps([textwrap.dedent(source), stdin, values])
        self._process.stdin.write(question.encode() + b"\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._read_line(time.monotonic() + timeout)))

    def _read_line(self, limit: float) -> bytes:
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            left = max(0, limit - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                raise TimeoutError("no answer in time")
            block = os.read(self._process.stdout.fileno(), 1 << 16)
            assert block, "the Python that waits has died"
            line += block
        return line

    def end(self) -> None:
        """End it, and what runs; may be called twice."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()
