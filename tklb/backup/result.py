"""The counts and the result of a backup. Decides; touches nothing."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from tklb.backup.changes import Difference
from tklb.backup.collect import MachineState
from tklb.backup.write_metadata import DeltaTotals
from tklb.base.measure import format_count
from tklb.errors import COMPLETE, INCOMPLETE, printable
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import Database
from tklb.model.files import Change
from tklb.model.report import MountPoint, OutsideItem, Skipped, status_of
from tklb.model.snapshot import Counts, Kind, LedgerEntry


@dataclass(frozen=True, slots=True)
class BackupResult:
    """The result of a backup. `snapshot` is the new one, or the newest one where nothing changed."""

    snapshot: str
    kind: Kind
    counts: Counts
    stored_bytes: int
    seconds: float
    databases: tuple[Database, ...] = ()  # dumped; the size is that of the dump
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    outside: tuple[OutsideItem, ...] = ()  # of the owner's, and not taken
    mounts: tuple[MountPoint, ...] = ()  # in scope

    @property
    def status(self) -> int:
        """The exit status of the run."""
        return max(status_of(self.skipped), INCOMPLETE if self.outside else COMPLETE)

    @property
    def summary(self) -> str:
        """What is done, in a few words."""
        if self.kind is Kind.NONE:
            return f"nothing has changed since snapshot {self.snapshot}"
        return f"snapshot {self.snapshot} is sealed"


def count_snapshot(
    difference: Difference, totals: DeltaTotals, state: MachineState, parts: frozenset[str], kind: Kind
) -> Counts:
    """Count the files of a full snapshot against the install state, those of an increment against the last snapshot.

    Packages and users always count against the install state.
    """
    packages, accounts, found = state.package_delta, state.account_delta, totals.files.changes
    is_full = kind is Kind.FULL
    has_files, has_packages, has_users = ("files" in parts, "packages" in parts, "users" in parts)
    return replace(
        count_delta(totals),
        files_changed=(found[Change.NEW] + found[Change.EDITED] if is_full else difference.changed) * has_files,
        files_metadata=(found[Change.METADATA] if is_full else difference.metadata) * has_files,
        files_deleted=(found[Change.DELETED] if is_full else difference.deleted) * has_files,
        bytes=difference.size * has_files,
        packages_added=len(packages.added) * has_packages,
        packages_removed=len(packages.removed) * has_packages,
        users_added=len(accounts.users_added) * has_users,
        users_changed=len(accounts.users_changed) * has_users,
    )


def has_same_gaps(known: Iterable[Skipped], skipped: Iterable[Skipped]) -> bool:
    """Whether a snapshot lacks the same as another: its record names all that a restore of it cannot bring back.

    What vanished while it was read is no gap.
    """
    before, now = (
        {item.item for item in items if not item.reason.startswith("vanished")} for items in (known, skipped)
    )
    return before == now


def count_delta(totals: DeltaTotals) -> Counts:
    """Count the whole delta, whatever of it the snapshot before already has."""
    changes = totals.files.changes
    return Counts(
        delta_files=sum(changes.values()) - changes[Change.DELETED],
        delta_bytes=totals.files.size,
        databases=len(totals.dumps.databases),
        database_bytes=totals.dump_bytes,
    )


def report_delta(
    totals: DeltaTotals, state: MachineState, outside: tuple[OutsideItem, ...], seconds: float
) -> BackupResult:
    """The result of a run that stored nothing."""
    return BackupResult(
        snapshot="",
        kind=Kind.NONE,
        counts=count_delta(totals),
        stored_bytes=0,
        seconds=seconds,
        databases=totals.dumps.databases,
        skipped=totals.skipped,
        warnings=(*_warn(state), *totals.dumps.notes),
        outside=outside,
        mounts=state.found.mounts,
    )


def report_snapshot(delta: BackupResult, sealed: LedgerEntry, resumed: LedgerEntry | None = None) -> BackupResult:
    """The result of a run that sealed a snapshot, after it `resumed` the upload of an earlier one."""
    note = (f"the interrupted upload of {resumed.snapshot} was finished first",) if resumed else ()
    skipped = {item.item for item in sealed.skipped}
    grown = [path for path, _ in sealed.changed_while_read if path not in skipped]
    return replace(
        delta,
        snapshot=sealed.snapshot,
        kind=sealed.kind,
        counts=sealed.counts,
        stored_bytes=sealed.stored_bytes,
        skipped=sealed.skipped,
        warnings=(*note, *_describe_grown(grown), *delta.warnings),
    )


def _describe_grown(paths: Sequence[bytes]) -> Iterator[str]:
    if paths:
        more = f" and {format_count(len(paths) - 1, 'other file')}" if len(paths) > 1 else ""
        yield f"{printable(paths[0])}{more} grew while tklb read: the snapshot has the length of that moment"


def _warn(state: MachineState) -> tuple[str, ...]:
    if not state.local:
        return ()
    return (f"no apt source offers {', '.join(sorted(state.local))}: a restore builds them again from their files",)
