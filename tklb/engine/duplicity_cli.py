"""The outside of duplicity 3.2.1: its arguments and its log codes.

Pure: takes values, gives argument lists and verdicts. worker.py changes its inside; that module refuses to work with
any other version.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from tklb.crypto.gpg import GPG_OPTIONS, pick_reason
from tklb.lazy_dataclass import dataclass

ENCODE, DECODE = "encode", "decode"  # the tasks of our worker

_SPACE_CODES = {35, 53}  # log.ErrorCode.not_enough_freespace, backend_no_space
_SPACE_WORDS = ("No space left on device", "Errno 28", "Disk quota exceeded", "Errno 122")
_HARMLESS = (re.compile(r"WARNING: .* has negative mtime, treating as 0\.", re.DOTALL),)  # the manifest has it right


@dataclass(frozen=True, slots=True)
class LogEntry:
    level: str  # ERROR WARNING NOTICE INFO DEBUG
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Folders:
    """What one duplicity process may write to, all private."""

    volumes: Path
    archive: Path
    temporary: Path
    gpg: Path  # the program that stands in for gpg


@dataclass(frozen=True, slots=True)
class SetOptions:
    """One backup set of a chain. Its label is `time`; `full` begins a new chain, else the last one is continued."""

    prefix: str
    time: datetime
    full: bool
    megabytes: int  # of a volume
    synchronise: bool  # the archive lacks what the volumes have: read it from there


def backup_arguments(folders: Folders, source: bytes, order: SetOptions) -> list[bytes]:
    """The arguments to make a set. Without `synchronise` duplicity trusts its archive and the names of the volumes."""
    options = [
        "full" if order.full else "incremental",
        f"--current-time={_seconds(order.time)}",
        f"--volsize={order.megabytes}",
        # Host and folder of a chain may change: another machine may continue it.
        "--allow-source-mismatch",
        *([] if order.synchronise else ["--no-check-remote"]),
        *_common(folders, order.prefix),
    ]
    return [*(word.encode() for word in options), source, _address(folders.volumes)]


def restore_arguments(folders: Folders, stage: Path, prefix: str, time: datetime) -> list[bytes]:
    """The arguments to decode the chain up to `time`. `stage` must be empty."""
    options = [
        "restore",
        f"--restore-time={_seconds(time)}",
        "--numeric-owner",
        # It demands room for more than two volumes of this size, but ours are links.
        "--volsize=1",
        *_common(folders, prefix),
    ]
    return [*(word.encode() for word in options), _address(folders.volumes), bytes(stage)]


def parse_log(text: str) -> Iterator[LogEntry]:
    """Parse the output of --log-fd: a line of level and code, text lines that begin with a dot, an empty line."""
    for block in text.split("\n\n"):
        head, *lines = block.strip("\n").split("\n")
        level, _, rest = head.partition(" ")
        code = rest.split(" ")[0]
        if code.isdigit():
            yield LogEntry(level, int(code), "\n".join(line.removeprefix(". ") for line in lines))


def select_problems(entries: Iterable[LogEntry]) -> tuple[LogEntry, ...]:
    """The errors and warnings, except those that are known to be harmless."""
    loud = (entry for entry in entries if entry.level in ("ERROR", "WARNING"))
    return tuple(entry for entry in loud if not any(known.fullmatch(entry.text) for known in _HARMLESS))


def is_about_space(entry: LogEntry) -> bool:
    return entry.code in _SPACE_CODES or any(word in entry.text for word in _SPACE_WORDS)


def reason(entry: LogEntry) -> str:
    """One line for people, out of a message that may be a traceback or the log of gpg."""
    lines = [line.strip() for line in entry.text.split("\n") if line.strip()]
    said_by_gpg = [line for line in lines if line.startswith("gpg: ")]
    if said_by_gpg:
        return pick_reason(said_by_gpg)
    if not lines:
        return f"{entry.level.lower()} {entry.code}"
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


def _common(folders: Folders, prefix: str) -> list[str]:
    return [
        f"--archive-dir={folders.archive.parent}",
        f"--name={folders.archive.name}",
        f"--tempdir={folders.temporary}",
        f"--gpg-binary={folders.gpg}",
        *([f"--file-prefix={prefix}"] if prefix else []),
        f"--gpg-options={GPG_OPTIONS}",
        # It works on a local folder only: another try would only hide the problem.
        "--num-retries=1",
        "--backend-retry-delay=0",
        "--verbosity=warning",
    ]


def _seconds(time: datetime) -> int:
    return int(time.timestamp())


def _address(folder: Path) -> bytes:
    return b"file://" + quote(bytes(folder)).encode()
