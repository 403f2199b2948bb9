"""What is on the target, and how the backups of this machine are."""

import contextlib
import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from tklb.config import Config, Paths
from tklb.durable import write_atomic
from tklb.errors import COMPLETE, INCOMPLETE, InternalError, Interrupted, NoSpace, TklbError
from tklb.flow.setting import Clock, Setting
from tklb.model import Record
from tklb.store.ledger import Ledger, read_ledger
from tklb.store.probe import probe, told_skew
from tklb.store.targets import open_target

LATE_AFTER = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class RunNote:
    """How the last backup run ended. `status` is its exit status."""

    time: datetime
    status: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """How the backups of this machine are. `exit_status` is what `tklb status` ends with."""

    state: str  # ok late never failing
    target: str
    profile: str
    last: Record | None
    checked: datetime | None  # when a backup last ran to its end
    snapshots: int
    stored_bytes: int
    problems: tuple[str, ...]
    exit_status: int


def snapshots(setting: Setting) -> Ledger:
    """Every sealed snapshot of the target, oldest first, and what is wrong with the ledger."""
    target = open_target(setting.config.target, setting.config, setting.paths.regions)
    return read_ledger(target, setting.secret, setting.paths.ledger, setting.older)


def condition(setting: Setting) -> Condition:
    """Judge the last run, the age of the last snapshot and whether the target can be used: it is written to as well."""
    note = read_note(setting.paths)
    records: tuple[Record, ...] = ()
    problems: list[str] = []
    status = COMPLETE
    try:
        ledger = snapshots(setting)
        records = ledger.records
        ledger.check()
        problems += check_target(setting.paths, setting.config, setting.clock)
    except TklbError as exc:
        problems.append(str(exc))
        status = exc.code
    last = records[-1] if records else None
    if note and note.error:
        problems.append(f"the last backup failed: {note.error}")
        status = status or note.status
    state = "failing" if problems else _state(setting, last, note)
    if note and note.status not in (COMPLETE, INCOMPLETE):
        status = status or note.status
    if last and last.skipped:
        problems.append(f"the last snapshot skipped {len(last.skipped)} items")
    return Condition(
        state=state,
        target=setting.config.target,
        profile=setting.profile.id,
        last=last,
        checked=note.time if note and not note.error else None,
        snapshots=len(records),
        stored_bytes=sum(record.stored_bytes for record in records),
        problems=tuple(problems),
        exit_status=status or (COMPLETE if state == "ok" and not problems else INCOMPLETE),
    )


def check_target(paths: Paths, config: Config, clock: Clock) -> tuple[str, ...]:
    """Use the target once in every way. Raises what is wrong with it; gives what is only odd."""
    with TemporaryDirectory(prefix="tklb-") as work:
        skew = probe(open_target(config.target, config, paths.regions), Path(work), clock, os.urandom)
    odd = told_skew(skew)
    return (odd,) if odd else ()


def note_run(paths: Paths, note: RunNote) -> None:
    """Remember how a backup run ended, for `tklb status`."""
    fields = {"time": note.time.isoformat(), "status": note.status, "error": note.error}
    write_atomic(paths.last_run, json.dumps(fields).encode())


def note_failure(paths: Paths, began: datetime, exc: BaseException) -> None:
    """Remember what ended a backup run. Where even that cannot be written, what ended it is told all the same."""
    told = Interrupted() if isinstance(exc, KeyboardInterrupt) else exc
    code = told.code if isinstance(told, TklbError) else InternalError.code
    with contextlib.suppress(OSError, NoSpace):
        note_run(paths, RunNote(began, code, str(told) or type(told).__name__))


def read_note(paths: Paths) -> RunNote | None:
    """How the last backup run ended; None before the first."""
    try:
        fields = json.loads(paths.last_run.read_bytes())
        return RunNote(datetime.fromisoformat(fields["time"]), int(fields["status"]), str(fields["error"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _state(setting: Setting, last: Record | None, note: RunNote | None) -> str:
    if last is None:
        return "never"
    # what was dated by a clock that was far ahead says nothing about today
    spans = [abs(setting.clock() - time) for time in (last.time, note.time if note else last.time)]
    return "late" if min(spans) > LATE_AFTER else "ok"
