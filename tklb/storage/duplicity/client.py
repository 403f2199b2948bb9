"""Start a helper process (helper.py), send it requests and watch it while it works.

Takes an address and the environment of duplicity's backends; gives answers. Touches the process, the entries in proc(5)
of it and of the programs that it runs, and a private folder for the files that they leave behind.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tklb.base.process import open_conversation
from tklb.base.python import python_argv
from tklb.errors import ProgramFailed
from tklb.model.secret import Secret
from tklb.storage.backend import Moved, ignore_moved

PATIENCE = 600.0  # seconds without a sign of life
_LOOK = 0.5  # seconds between two looks at what moves
_LONGEST_ANSWER = 64 << 20


class HelperFailed(Exception):
    """A request that the helper could not carry out; helper.py lists the kinds."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


class HelperProcess:
    """A process with duplicity's backends, for one thread at a time; close() may be called by any.

    `patience` is in seconds. Raises HelperFailed, ConnectionError where the process ended, and TimeoutError where
    nothing in it has moved for so long.
    """

    def __init__(self, address: str, environment: Mapping[str, Secret], patience: float = PATIENCE) -> None:
        self._patience = patience
        self._stack = contextlib.ExitStack()
        self._received = b""
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tklb-helper-")))
        words: dict[str, str | Secret] = {**environment, "TMPDIR": str(self.folder)}
        try:
            self._talk = self._stack.enter_context(
                open_conversation(python_argv("tklb.storage.duplicity.helper"), environment=words)
            )
            self.ask({"do": "open", "address": address})
        except BaseException:
            self._stack.close()
            raise

    @property
    def is_alive(self) -> bool:
        return self._talk.is_running

    def ask(
        self, request: Mapping[str, str], moved: Moved = ignore_moved, look: Callable[[], int] = int
    ) -> dict[str, Any]:
        """Send a request and give its answer. `moved` gets the bytes that the helper or `look` reports, else 0."""
        self._say(request)
        answer = self._wait_for_answer(moved, look)
        while "moved" in answer:
            moved(int(answer["moved"]))
            self._say({})
            answer = self._wait_for_answer(moved, look)
        if "failed" in answer:
            raise HelperFailed(str(answer["failed"]), str(answer["reason"]))
        return answer

    def close(self) -> None:
        self._stack.close()

    def _wait_for_answer(self, moved: Moved, look: Callable[[], int]) -> dict[str, Any]:
        """The next line of the helper. Raises TimeoutError where nothing has moved for the patience."""
        life, seen = self._life(), time.monotonic()
        while (line := self._line()) is None:
            moving, now = look(), self._life()
            if moving or now != life:
                moved(moving)
                life, seen = now, time.monotonic()
            if time.monotonic() - seen > self._patience:
                raise TimeoutError
        return _parse(line)

    def _say(self, request: Mapping[str, str]) -> None:
        try:
            self._talk.say(json.dumps(request).encode() + b"\n")
        except (ProgramFailed, ValueError) as exc:
            raise ConnectionResetError(str(exc)) from exc

    def _line(self) -> bytes | None:
        """The next line, None where there was none for a moment."""
        if b"\n" not in self._received:
            try:
                block = self._talk.hear(1 << 16, _LOOK)
            except ProgramFailed:
                return None
            except (OSError, ValueError) as exc:  # closed meanwhile
                raise ConnectionResetError(str(exc)) from exc
            if not block or len(self._received) > _LONGEST_ANSWER:
                raise ConnectionResetError(self._talk.last_errors() or "it ended")
            self._received += block
        line, mark, rest = self._received.partition(b"\n")
        if not mark:
            return None
        self._received = rest
        return line

    def _life(self) -> tuple[bytes, ...]:
        """The bytes that the helper and the programs it runs have read and written, as proc(5) counts them."""
        return tuple(_content(f"/proc/{pid}/io") for pid in self.programs(own=True))

    def programs(self, *, own: bool = False) -> tuple[str, ...]:
        """The processes of its group; with `own` the helper itself too."""
        leader = str(self._talk.pid)
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            fields = _content(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            if len(fields) > 2 and fields[2].decode() == leader and (own or pid != leader):
                found.append(pid)
        return tuple(found)


class UploadWatch:
    """Called: the bytes by which a folder grew since the last call."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._size = folder, 0

    def __call__(self) -> int:
        before, self._size = self._size, max(self._size, size_below(self._folder))
        return self._size - before


class DownloadWatch:
    """Called: the bytes of a file that the programs of a helper read since the last call."""

    def __init__(self, helper: HelperProcess, file: Path) -> None:
        self._helper, self._file, self._at = helper, str(file), 0

    def __call__(self) -> int:
        before, self._at = self._at, max([self._at, *map(self._read_by, self._helper.programs())])
        return self._at - before

    def _read_by(self, pid: str) -> int:
        furthest = 0
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{number}") == self._file:
                    position = _content(f"/proc/{pid}/fdinfo/{number}").split()
                    furthest = max(furthest, int(position[1]) if len(position) > 1 else 0)
        return furthest


def size_below(folder: Path) -> int:
    total = 0
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            total += entry.stat(follow_symlinks=False).st_size
    return total


def _parse(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError as exc:
        raise ConnectionResetError("its answer is no JSON") from exc
    return answer if isinstance(answer, dict) else {}


def _content(file: str) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError:
        return b""  # the process has just ended
