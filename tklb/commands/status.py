"""Check how the backups of this machine are: the last run, the age of the last snapshot, the target."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from tklb.backup.run_note import RunNote, read_note
from tklb.backup.scope.outside import describe_outside
from tklb.commands.list import list_snapshots
from tklb.errors import COMPLETE, INCOMPLETE, TklbError
from tklb.model.report import OutsideItem
from tklb.model.snapshot import LedgerEntry
from tklb.session import Session
from tklb.storage.kinds import open_backend
from tklb.storage.probe import check_target

LATE_AFTER = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class StatusReport:
    """How the backups of this machine are. `exit_status` is that of `tklb status`."""

    state: str  # ok late never failing
    target: str
    profile: str
    last: LedgerEntry | None
    checked: datetime | None  # when the last complete backup run ended
    snapshots: int
    stored_bytes: int
    problems: tuple[str, ...]
    outside: tuple[OutsideItem, ...]  # what of the owner's the last run did not take
    exit_status: int


def check_status(session: Session) -> StatusReport:
    """Check the last run, the age of the last snapshot, and the target, which includes a write to it."""
    note = read_note(session.paths)
    entries: tuple[LedgerEntry, ...] = ()
    problems: list[str] = []
    status = COMPLETE
    try:
        ledger = list_snapshots(session)
        entries = ledger.entries
        ledger.check()
        config = session.config
        problems += check_target(open_backend(config.target, config, session.paths.regions), session.clock)
    except TklbError as exc:
        problems.append(str(exc))
        status = exc.code
    last = entries[-1] if entries else None
    if note and note.error:
        problems.append(f"the last backup failed: {note.error}")
        status = status or note.status
    state = "failing" if problems else _state(session, last, note)
    if note and note.status not in (COMPLETE, INCOMPLETE):
        status = status or note.status
    if last and last.skipped:
        problems.append(f"the last snapshot skipped {len(last.skipped)} items")
    outside = note.outside if note else ()
    problems += [f"not taken: {line}" for line in describe_outside(outside)]
    return StatusReport(
        state=state,
        target=session.config.target,
        profile=session.profile.id,
        last=last,
        checked=note.time if note and not note.error else None,
        snapshots=len(entries),
        stored_bytes=sum(entry.stored_bytes for entry in entries),
        problems=tuple(problems),
        outside=outside,
        exit_status=status or (COMPLETE if state == "ok" and not problems else INCOMPLETE),
    )


def _state(session: Session, last: LedgerEntry | None, note: RunNote | None) -> str:
    if last is None:
        return "never"
    # a time from a clock that was far ahead says nothing about today
    spans = [abs(session.clock() - time) for time in (last.time, note.time if note else last.time)]
    return "late" if min(spans) > LATE_AFTER else "ok"
