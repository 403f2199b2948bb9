"""Take a snapshot: look, stage, compare with the last one, push, check what was read, seal.

A snapshot exists from the moment its ledger record does. Until then everything may be thrown away, and is.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tklb import snapshot
from tklb.durable import fresh_folder, private_folder, run_lock
from tklb.flow.chain import open_chain
from tklb.flow.databases import list_databases
from tklb.flow.deliver import go_on
from tklb.flow.difference import Difference, since_last
from tklb.flow.inspect import RunNote, note_failure, note_run
from tklb.flow.keys import keep_on_target
from tklb.flow.push import Order, push
from tklb.flow.setting import Setting
from tklb.flow.stage import Staged, Staging, fill_stage
from tklb.flow.survey import Survey, survey
from tklb.model import Change, Counts, Database, Kind, Record, Skipped, status_of

ALL_PARTS = frozenset(snapshot.PARTS)


@dataclass(frozen=True, slots=True)
class Request:
    full: bool = False
    skip: frozenset[str] = frozenset()
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did. `snapshot` is the one taken, or the one that still holds where nothing changed."""

    snapshot: str
    kind: Kind
    counts: Counts
    stored_bytes: int
    seconds: float
    databases: tuple[Database, ...] = ()  # dumped; the size is that of the dump
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()


def take(setting: Setting, request: Request) -> Result:
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


def rehearse(setting: Setting, request: Request) -> Result:
    """Say what a backup would take, by the records this machine has of its last one; leave nothing behind."""
    began = setting.clock()
    last = setting.paths.last if setting.paths.last.is_dir() and not request.full else None
    with TemporaryDirectory(prefix="tklb-") as folder:
        stage, work = private_folder(Path(folder, "stage")), private_folder(Path(folder, "work"))
        seen = survey(setting, request.overrides)
        staged = fill_stage(
            setting, seen, stage, Staging(ALL_PARTS - request.skip, work / "index", last, list_databases)
        )
        difference = since_last(last, stage, work, frozenset())
    difference.dumps_moved = False  # nothing was dumped
    empty = _result(setting, began, seen, staged)
    if last and difference.is_empty:
        return empty
    kind = Kind.INCREMENTAL if last else Kind.FULL
    return replace(empty, kind=kind, counts=_counts(difference, staged, seen, request, kind))


def _take(setting: Setting, request: Request, began: datetime) -> Result:
    chain = open_chain(setting)
    earlier = go_on(setting, chain)
    if earlier:
        chain = open_chain(setting)
    last = chain.last_records(setting.paths) if chain.continues(setting.secret) and not request.full else None
    with fresh_folder(setting.paths.stage) as stage, fresh_folder(setting.paths.cache / "work") as work:
        seen = survey(setting, request.overrides)
        staged = fill_stage(setting, seen, stage, Staging(ALL_PARTS - request.skip, setting.paths.index, last))
        difference = since_last(last, stage, work, chain.doubtful)
        empty = _result(setting, began, seen, staged)
        if chain.head and last and difference.is_empty:
            keep_on_target(setting, chain.target)
            return _finished(empty, earlier, earlier) if earlier else replace(empty, snapshot=chain.head.snapshot)
        counts = _counts(difference, staged, seen, request, Kind.INCREMENTAL if last else Kind.FULL)
        order = Order(stage, work, difference, counts, tuple(seen.skipped), full=last is None)
        record = push(setting, chain, order)
        keep_on_target(setting, chain.target)
    seconds = (setting.clock() - began).total_seconds()
    return replace(_finished(empty, record, earlier), counts=counts, seconds=seconds)


def _finished(empty: Result, record: Record, earlier: Record | None = None) -> Result:
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


def _counts(difference: Difference, staged: Staged, seen: Survey, request: Request, kind: Kind) -> Counts:
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


def _totals(staged: Staged) -> Counts:
    entries = sum(staged.changes.values()) - staged.changes[Change.DELETED]
    return Counts(
        delta_files=entries,
        delta_bytes=staged.size,
        databases=len(staged.dumps.databases),
        database_bytes=staged.dumps.bytes,
    )


def _result(setting: Setting, began: datetime, seen: Survey, staged: Staged) -> Result:
    """The result of a run that stored nothing."""
    return Result(
        snapshot="",
        kind=Kind.NONE,
        counts=_totals(staged),
        stored_bytes=0,
        seconds=(setting.clock() - began).total_seconds(),
        databases=tuple(staged.dumps.databases),
        skipped=tuple(seen.skipped),
        warnings=(*_warnings(seen), *staged.dumps.notes),
    )


def _warnings(seen: Survey) -> tuple[str, ...]:
    if not seen.local:
        return ()
    return (f"no apt source offers {', '.join(sorted(seen.local))}: their files are taken as files",)
