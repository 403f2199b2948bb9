"""Take a snapshot: look, stage, compare with the last one, push, check what was read, seal.

A snapshot exists from the moment its ledger record does. Until then everything may be thrown away, and is.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from tklb import snapshot
from tklb.durable import fresh_folder, run_lock
from tklb.errors import COMPLETE, INCOMPLETE
from tklb.flow.chain import keep_records, open_chain
from tklb.flow.difference import Difference, since_last
from tklb.flow.inspect import RunNote, note_failure, note_run
from tklb.flow.push import Order, push
from tklb.flow.setting import Setting
from tklb.flow.stage import Staged, fill_stage
from tklb.flow.survey import Survey, file_changes, survey
from tklb.model import Change, Counts, Kind, Skipped

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
        note_run(setting.paths, RunNote(began, INCOMPLETE if result.skipped else COMPLETE))
        return result


def rehearse(setting: Setting, request: Request) -> Result:
    """Say what a full snapshot would hold; touch nothing."""
    began = setting.clock()
    seen = survey(setting, request.overrides)
    totals = dict.fromkeys(Change, 0)
    amount = 0
    for change in file_changes(setting, seen) if "files" not in request.skip else ():
        totals[change.change] += 1
        amount += (change.now.size or 0) if change.now else 0
    counts = Counts(
        files_changed=totals[Change.NEW] + totals[Change.EDITED],
        files_metadata=totals[Change.METADATA],
        files_deleted=totals[Change.DELETED],
        bytes=amount,
        delta_files=sum(totals.values()) - totals[Change.DELETED],
        delta_bytes=amount,
    )
    return _result(setting, began, "", Kind.FULL, _with_accounts(counts, seen, request.skip), seen)


def _take(setting: Setting, request: Request, began: datetime) -> Result:
    chain = open_chain(setting)
    last = None if request.full else chain.last_records(setting.paths)
    with fresh_folder(setting.paths.stage) as stage, fresh_folder(setting.paths.cache / "work") as work:
        seen = survey(setting, request.overrides)
        staged = fill_stage(setting, seen, stage, ALL_PARTS - request.skip)
        difference = since_last(last, stage, work, chain.doubtful)
        if chain.head and last and difference.is_empty:
            return _result(setting, began, chain.head.snapshot, Kind.NONE, Counts(), seen)
        counted = Counts() if "files" in request.skip else _counted(difference, staged)
        counts = _with_accounts(counted, seen, request.skip)
        order = Order(stage, work, difference, counts, tuple(seen.skipped), full=last is None)
        record = push(setting, chain, order)
        keep_records(setting.paths, stage)
    result = _result(setting, began, record.snapshot, record.kind, counts, seen)
    return replace(result, stored_bytes=record.stored_bytes, skipped=record.skipped)


def _counted(difference: Difference, staged: Staged) -> Counts:
    return Counts(
        files_changed=difference.changed,
        files_metadata=difference.metadata,
        files_deleted=difference.deleted,
        bytes=difference.size,
        delta_files=staged.entries,
        delta_bytes=staged.size,
    )


def _with_accounts(counts: Counts, seen: Survey, skip: frozenset[str]) -> Counts:
    packages, accounts = seen.package_delta, seen.account_delta
    has_packages, has_users = "packages" not in skip, "users" not in skip
    return replace(
        counts,
        packages_added=len(packages.added) * has_packages,
        packages_removed=len(packages.removed) * has_packages,
        users_added=len(accounts.users_added) * has_users,
        users_changed=len(accounts.users_changed) * has_users,
    )


def _result(setting: Setting, began: datetime, name: str, kind: Kind, counts: Counts, seen: Survey) -> Result:
    return Result(
        snapshot=name,
        kind=kind,
        counts=counts,
        stored_bytes=0,
        seconds=(setting.clock() - began).total_seconds(),
        skipped=tuple(seen.skipped),
        warnings=_warnings(seen),
    )


def _warnings(seen: Survey) -> tuple[str, ...]:
    if not seen.local:
        return ()
    return (f"no apt source offers {', '.join(sorted(seen.local))}: their files are taken as files",)
