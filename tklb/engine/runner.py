"""Run duplicity in a process of its own, watch it, and check how it ended.

Takes arguments and folders; gives its report. The secret goes into the environment of that process and nowhere else.
Touches nothing itself. Raises ProgramFailed, NoSpace, TargetFull.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tklb.base.fs import free_space
from tklb.base.process import ProcessResult, run
from tklb.base.python import python_argv
from tklb.crypto.gpg import check_global_options
from tklb.engine import duplicity_cli
from tklb.engine.duplicity_cli import Folders, LogEntry
from tklb.errors import NoSpace, ProgramFailed, TargetFull, TklbError
from tklb.lazy_dataclass import dataclass
from tklb.model.secret import Secret

Moved = Callable[[int], None]

_WORKER = "tklb.engine.worker"
_ANY_STATUS = range(-64, 256)


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One line of the report; worker.py lists the kinds."""

    kind: bytes
    size: int
    text: str
    path: bytes


@dataclass(frozen=True, slots=True)
class WorkerJob:
    """One run of duplicity. `task` is ENCODE or DECODE, `names` and `forced` are files of names for the worker.

    The results go below `destination`. `patience` is in seconds.
    """

    task: str
    folders: Folders
    destination: Path
    arguments: Sequence[bytes]
    secret: Secret
    patience: float
    moved: Moved
    names: Path
    forced: Path | None = None


def run_duplicity(job: WorkerJob) -> tuple[ReportLine, ...]:
    """Run one job to its end, and give its report without the progress.

    Any error or warning of duplicity is a failure, except those that are known to be harmless.
    """
    check_global_options()
    temporary = str(job.folders.temporary)
    # In memory: a full disk must not swallow the message that it is full.
    with open(os.memfd_create("report"), "r+b") as report, open(os.memfd_create("log"), "r+b") as log:
        argv: list[str | bytes] = [
            *python_argv(_WORKER),
            *(str(report.fileno()), str(os.getpid()), job.task, str(job.names), str(job.forced or "")),
            f"--log-fd={log.fileno()}",
            *job.arguments,
        ]
        result = run(
            argv,
            environment={"PASSPHRASE": job.secret, "GNUPGHOME": temporary, "TMPDIR": temporary, "HOME": temporary},
            accept=_ANY_STATUS,
            pass_fds=(report.fileno(), log.fileno()),
            watch=_LifeWatch(report.fileno(), log.fileno(), job),
        )
        log.seek(0)
        problems = duplicity_cli.select_problems(
            duplicity_cli.parse_log(log.read().decode("utf-8", "backslashreplace"))
        )
        if result.status or problems or result.stderr:
            raise _failure(job, result, problems)
        report.seek(0)
        return tuple(line for line in parse_report(report.read()) if line.kind != b"moved")


def parse_report(content: bytes) -> Iterator[ReportLine]:
    """Parse a report; the torn last line of a killed worker is left out."""
    for line in content.split(b"\0")[:-1]:
        kind, first, *rest = line.split(b"\t", 3)
        if kind == b"failed":
            yield ReportLine(kind, 0, first.decode(), rest[1])
        else:
            yield ReportLine(kind, int(first), rest[0].decode() if rest else "", rest[1] if rest else b"")


class _LifeWatch:
    """Called twice a second: reports the bytes that were read, and ends a run in which nothing moves any more."""

    def __init__(self, report: int, log: int, job: WorkerJob) -> None:
        self._report, self._log, self._job = report, log, job
        self._offset = self._moved = 0
        self._seen: object = None
        self._since = time.monotonic()
        self._worker = 0

    def __call__(self) -> None:
        content = os.pread(self._report, 1 << 24, self._offset)
        whole = content[: content.rfind(b"\0") + 1]
        self._offset += len(whole)
        for line in parse_report(whole):
            if line.kind == b"worker":
                self._worker = line.size
            elif line.kind == b"moved":
                self._moved += line.size
        self._job.moved(self._moved)
        self._check_life()

    def _check_life(self) -> None:
        now = (self._offset, os.fstat(self._log).st_size, _traffic(self._worker))
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
        elif time.monotonic() - self._since > self._job.patience:
            raise ProgramFailed(program="duplicity", reason=f"it did nothing for {self._job.patience:g} seconds")


def _traffic(worker: int) -> bytes:
    """The bytes that the process has read and written so far, as proc(5) counts them."""
    try:
        return Path(f"/proc/{worker}/io").read_bytes()
    except OSError:
        return b""


def _failure(job: WorkerJob, result: ProcessResult, problems: Sequence[LogEntry]) -> TklbError:
    if any(duplicity_cli.is_about_space(entry) for entry in problems):
        return _full(job)
    last_line = result.stderr.decode("utf-8", "backslashreplace").strip().split("\n")[-1]
    reason = duplicity_cli.reason(problems[0]) if problems else last_line or "it gave no reason"
    ending = f"signal {-result.status}" if result.status < 0 else f"exit status {result.status}"
    return ProgramFailed(program="duplicity", reason=f"{reason} ({ending})")


def _full(job: WorkerJob) -> TklbError:
    """The failure of the disk that is full: of destination and cache, the one with less room left."""
    archive, destination = job.folders.archive, job.destination
    if free_space(archive) < free_space(destination):
        return NoSpace(path=archive, reason="its file system is full")
    if job.task == duplicity_cli.DECODE:
        return NoSpace(path=destination, reason="its file system is full")
    return TargetFull(address=destination)
