"""Take a snapshot: look, stage, compare with the last one, push, check what was read, seal.

A snapshot exists from the moment its ledger record does. Until then everything may be thrown away, and is.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tklb.backup.chain import open_chain
from tklb.backup.changes import Difference, compare_with_last
from tklb.backup.collect import MachineState, collect_state
from tklb.backup.dump_databases import list_databases
from tklb.backup.encode import EncodeJob, encode_snapshot
from tklb.backup.metadata import DeltaTotals, MetadataJob, write_metadata
from tklb.backup.run_note import RunNote, note_failure, note_run
from tklb.backup.target_key import update_key_file
from tklb.backup.upload import resume_upload
from tklb.base.fs import fresh_folder, private_folder, run_lock
from tklb.model.databases import Database
from tklb.model.files import Change
from tklb.model.report import Skipped, status_of
from tklb.model.snapshot import Counts, Kind, LedgerEntry
from tklb.model.snapshot_metadata import PARTS
from tklb.session import Session

ALL_PARTS = frozenset(PARTS)


@dataclass(frozen=True, slots=True)
class BackupRequest:
    full: bool = False
    skip: frozenset[str] = frozenset()
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What a run did. `snapshot` is the one taken, or the one that still holds where nothing changed."""

    snapshot: str
    kind: Kind
    counts: Counts
    stored_bytes: int
    seconds: float
    databases: tuple[Database, ...] = ()  # dumped; the size is that of the dump
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()


def take(setting: Session, request: BackupRequest) -> BackupResult:
    """Take a snapshot, and remember how that ended."""
    with run_lock(setting.paths.lock):
        began = setting.clock()
        try:
            result = _take(setting, request, began)
        except BaseException as exc:
            note_failure(setting.paths, began, exc)
            raise
        note_run(setting.paths, RunNote(began, status_of(result.skipped)))
        return result


def rehearse(setting: Session, request: BackupRequest) -> BackupResult:
    """Say what a backup would take, by the records this machine has of its last one; leave nothing behind."""
    began = setting.clock()
    last = setting.paths.last if setting.paths.last.is_dir() and not request.full else None
    with TemporaryDirectory(prefix="tklb-") as folder:
        stage, work = private_folder(Path(folder, "stage")), private_folder(Path(folder, "work"))
        seen = collect_state(setting, request.overrides)
        staged = write_metadata(
            setting, seen, stage, MetadataJob(ALL_PARTS - request.skip, work / "index", last, list_databases)
        )
        difference = compare_with_last(last, stage, work, frozenset())
    difference.dumps_moved = False  # nothing was dumped
    empty = _result(setting, began, seen, staged)
    if last and difference.is_empty:
        return empty
    kind = Kind.INCREMENTAL if last else Kind.FULL
    return replace(empty, kind=kind, counts=_counts(difference, staged, seen, request, kind))


def _take(setting: Session, request: BackupRequest, began: datetime) -> BackupResult:
    chain = open_chain(setting)
    earlier = resume_upload(setting, chain)
    if earlier:
        chain = open_chain(setting)
    last = chain.last_records(setting.paths) if chain.continues(setting.secret) and not request.full else None
    with fresh_folder(setting.paths.stage) as stage, fresh_folder(setting.paths.cache / "work") as work:
        seen = collect_state(setting, request.overrides)
        staged = write_metadata(setting, seen, stage, MetadataJob(ALL_PARTS - request.skip, setting.paths.index, last))
        difference = compare_with_last(last, stage, work, chain.doubtful)
        empty = _result(setting, began, seen, staged)
        if chain.head and last and difference.is_empty:
            update_key_file(setting, chain.target)
            return _finished(empty, earlier, earlier) if earlier else replace(empty, snapshot=chain.head.snapshot)
        counts = _counts(difference, staged, seen, request, Kind.INCREMENTAL if last else Kind.FULL)
        order = EncodeJob(stage, work, difference, counts, tuple(seen.skipped), full=last is None)
        record = encode_snapshot(setting, chain, order)
        update_key_file(setting, chain.target)
    seconds = (setting.clock() - began).total_seconds()
    return replace(_finished(empty, record, earlier), counts=counts, seconds=seconds)


def _finished(empty: BackupResult, record: LedgerEntry, earlier: LedgerEntry | None = None) -> BackupResult:
    """The result of a run that sealed `record`, and before it what an `earlier` run was uploading."""
    note = (f"{earlier.snapshot}, whose upload had been interrupted, was finished first",) if earlier else ()
    return replace(
        empty,
        snapshot=record.snapshot,
        kind=record.kind,
        counts=record.counts,
        stored_bytes=record.stored_bytes,
        skipped=record.skipped,
        warnings=(*note, *empty.warnings),
    )


def _counts(
    difference: Difference, staged: DeltaTotals, seen: MachineState, request: BackupRequest, kind: Kind
) -> Counts:
    """Files of a full snapshot count against the install state, of an increment against the last snapshot.

    Packages and users always count against the install state.
    """
    packages, accounts, found = seen.package_delta, seen.account_delta, staged.changes
    is_full, has_files = kind is Kind.FULL, "files" not in request.skip
    has_packages, has_users = "packages" not in request.skip, "users" not in request.skip
    return replace(
        _totals(staged),
        files_changed=(found[Change.NEW] + found[Change.EDITED] if is_full else difference.changed) * has_files,
        files_metadata=(found[Change.METADATA] if is_full else difference.metadata) * has_files,
        files_deleted=(found[Change.DELETED] if is_full else difference.deleted) * has_files,
        bytes=difference.size * has_files,
        packages_added=len(packages.added) * has_packages,
        packages_removed=len(packages.removed) * has_packages,
        users_added=len(accounts.users_added) * has_users,
        users_changed=len(accounts.users_changed) * has_users,
    )


def _totals(staged: DeltaTotals) -> Counts:
    entries = sum(staged.changes.values()) - staged.changes[Change.DELETED]
    return Counts(
        delta_files=entries,
        delta_bytes=staged.size,
        databases=len(staged.dumps.databases),
        database_bytes=staged.dumps.bytes,
    )


def _result(setting: Session, began: datetime, seen: MachineState, staged: DeltaTotals) -> BackupResult:
    """The result of a run that stored nothing."""
    return BackupResult(
        snapshot="",
        kind=Kind.NONE,
        counts=_totals(staged),
        stored_bytes=0,
        seconds=(setting.clock() - began).total_seconds(),
        databases=tuple(staged.dumps.databases),
        skipped=tuple(seen.skipped),
        warnings=(*_warnings(seen), *staged.dumps.notes),
    )


def _warnings(seen: MachineState) -> tuple[str, ...]:
    if not seen.local:
        return ()
    return (f"no apt source offers {', '.join(sorted(seen.local))}: their files are taken as files",)
