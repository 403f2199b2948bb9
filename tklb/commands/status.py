"""Check how the backups of this machine are: the last run, the age of the last snapshot, the target."""

from datetime import datetime, timedelta

from tklb.backup.run_note import RunNote, read_note
from tklb.backup.scope.outside_lines import describe_outside
from tklb.base.concurrency import call_within
from tklb.commands.list import list_snapshots
from tklb.config.paths import Paths
from tklb.errors import COMPLETE, INCOMPLETE, NotInitialised, TargetUnreachable, TklbError
from tklb.lazy_dataclass import dataclass
from tklb.ledger.read import read_kept_entries
from tklb.model.callbacks import Clock
from tklb.model.report import OutsideItem, describe_skipped, status_of
from tklb.model.snapshot import LedgerEntry, describe_long_chain
from tklb.model.target import Permanence
from tklb.restore.remainder import describe_interruption, read_remainder
from tklb.session import Session, open_session
from tklb.storage.kinds import open_backend
from tklb.storage.probe import recheck_target
from tklb.storage.url import parse_url

LATE_AFTER = timedelta(hours=48)
TARGET_SECONDS = 20.0  # how long the target may take to answer


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
    permanence: Permanence | None = None  # None where nobody could try the target yet
    unfinished_restore: str = ""  # the snapshot of a restore that was interrupted


def open_status_session(paths: Paths, clock: Clock) -> Session:
    """Open the session of this machine. Raises NotInitialised, with the restore that was interrupted, if one was."""
    try:
        return open_session(paths, clock)
    except NotInitialised as exc:
        if problems := describe_interruption(paths.remainder):
            raise NotInitialised(reason=f"{problems[0]}: repeat it") from exc
        raise


def check_status(session: Session) -> StatusReport:
    """Check the last run, the age of the last snapshot, and the target, which includes a write to it."""
    note, target = read_note(session.paths), _check_target(session)
    last, problems, status = (target.entries or (None,))[-1], list(target.problems), target.status
    problems += (f"{text}: repeat `tklb restore`" for text in describe_interruption(session.paths.remainder))
    problems += [f"the last backup failed: {note.error}"] if note and note.error else []
    state = "failing" if problems else _state(session, last, note)
    ended = note.status if note and note.status != INCOMPLETE else COMPLETE
    status = status or max(ended, status_of(last.skipped if last else ()))
    problems += [f"the last snapshot skipped {describe_skipped(last.skipped)}"] if last and last.skipped else []
    outside = note.outside if note else ()
    problems += [*(f"not taken: {line}" for line in describe_outside(outside)), *describe_long_chain(last)]
    return StatusReport(
        state=state,
        target=session.config.target,
        profile=session.profile.id,
        last=last,
        checked=note.time if note and not note.error else None,
        snapshots=len(target.entries),
        stored_bytes=sum(entry.stored_bytes for entry in target.entries),
        problems=tuple(problems),
        outside=outside,
        exit_status=status or (COMPLETE if state == "ok" and not problems else INCOMPLETE),
        permanence=target.permanence,
        unfinished_restore=read_remainder(session.paths.remainder).snapshot,
    )


@dataclass(frozen=True, slots=True)
class _TargetState:
    entries: tuple[LedgerEntry, ...]
    problems: tuple[str, ...] = ()
    status: int = COMPLETE
    permanence: Permanence | None = None


def _check_target(session: Session) -> _TargetState:
    """Read the ledger and use the target once; where that fails, give the entries that this machine remembers."""
    address, late = parse_url(session.config.target).text, f"no answer within {TARGET_SECONDS:g} seconds"
    try:
        return call_within(TARGET_SECONDS, lambda: _ask_target(session))
    except TimeoutError:
        failure: TklbError = TargetUnreachable(address=address, reason=late)
    except TklbError as exc:
        failure = exc
    known = read_kept_entries(address, session.secret, session.paths.ledger, session.older)
    remembered = ("the snapshots are those that this machine remembers",) if known else ()
    return _TargetState(known, (str(failure), *remembered), failure.code)


def _ask_target(session: Session) -> _TargetState:
    ledger, config, paths = list_snapshots(session), session.config, session.paths
    try:
        ledger.check()
        notes = recheck_target(open_backend(config.target, config, paths.regions), session.clock, paths.target_traits)
        return _TargetState(ledger.entries, notes.odd, permanence=notes.permanence)
    except TklbError as exc:
        return _TargetState(ledger.entries, (str(exc),), exc.code)


def _state(session: Session, last: LedgerEntry | None, note: RunNote | None) -> str:
    if last is None:
        return "never"
    # a time from a clock that was far ahead says nothing about today
    spans = [abs(session.clock() - time) for time in (last.time, note.time if note else last.time)]
    return "late" if min(spans) > LATE_AFTER else "ok"
