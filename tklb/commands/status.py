"""What is on the target, and how the backups of this machine are."""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from tklb.backup.run_note import RunNote, read_note
from tklb.config.paths import Paths
from tklb.config.schema import Config
from tklb.errors import COMPLETE, INCOMPLETE, TklbError
from tklb.ledger.read import Ledger, read_ledger
from tklb.model.callbacks import Clock
from tklb.model.snapshot import LedgerEntry
from tklb.session import Session
from tklb.storage.kinds import open_backend
from tklb.storage.probe import describe_skew, probe

LATE_AFTER = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class StatusReport:
    """How the backups of this machine are. `exit_status` is what `tklb status` ends with."""

    state: str  # ok late never failing
    target: str
    profile: str
    last: LedgerEntry | None
    checked: datetime | None  # when a backup last ran to its end
    snapshots: int
    stored_bytes: int
    problems: tuple[str, ...]
    exit_status: int


def list_snapshots(setting: Session) -> Ledger:
    """Every sealed snapshot of the target, oldest first, and what is wrong with the ledger."""
    target = open_backend(setting.config.target, setting.config, setting.paths.regions)
    return read_ledger(target, setting.secret, setting.paths.ledger, setting.older)


def check_status(setting: Session) -> StatusReport:
    """Judge the last run, the age of the last snapshot and whether the target can be used: it is written to as well."""
    note = read_note(setting.paths)
    records: tuple[LedgerEntry, ...] = ()
    problems: list[str] = []
    status = COMPLETE
    try:
        ledger = list_snapshots(setting)
        records = ledger.entries
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
    return StatusReport(
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
        skew = probe(open_backend(config.target, config, paths.regions), Path(work), clock, os.urandom)
    odd = describe_skew(skew)
    return (odd,) if odd else ()


def _state(setting: Session, last: LedgerEntry | None, note: RunNote | None) -> str:
    if last is None:
        return "never"
    # what was dated by a clock that was far ahead says nothing about today
    spans = [abs(setting.clock() - time) for time in (last.time, note.time if note else last.time)]
    return "late" if min(spans) > LATE_AFTER else "ok"
