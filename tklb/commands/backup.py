"""Take a snapshot: collect, write the metadata, compare with the last snapshot, encode, upload, seal.

A snapshot exists when its ledger entry does. Until then the next run may discard everything.
"""

import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tklb.backup.chain import hold_target, open_chain
from tklb.backup.changes import compare_with_last
from tklb.backup.collect import collect_state
from tklb.backup.dump_databases import list_databases
from tklb.backup.encode import EncodeJob, encode_snapshot, is_too_long, open_spool
from tklb.backup.result import BackupResult, count_snapshot, has_same_gaps, report_delta, report_snapshot
from tklb.backup.run_note import RunNote, note_failure, note_run
from tklb.backup.scope.outside import find_outside
from tklb.backup.target_key import update_key_file
from tklb.backup.upload import prepare_target, resume_upload, upload_and_seal
from tklb.backup.write_metadata import MetadataJob, write_metadata
from tklb.base.fs import fresh_folder, private_folder, run_lock
from tklb.lazy_dataclass import dataclass
from tklb.model.snapshot import Kind
from tklb.model.snapshot_metadata import PARTS
from tklb.session import Session

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BackupRequest:
    full: bool = False
    skip: frozenset[str] = frozenset()
    overrides: tuple[str, ...] = ()

    @property
    def parts(self) -> frozenset[str]:
        return frozenset(PARTS) - self.skip


def take_snapshot(session: Session, request: BackupRequest) -> BackupResult:
    """Take a snapshot, and note for `tklb status` how that ended."""
    begin = session.clock()
    with note_failure(session.paths, begin), run_lock(session.paths.lock):
        result = _take_snapshot(session, request, begin)
        note_run(session.paths, RunNote(begin, result.status, outside=result.outside))
        return result


def _take_snapshot(session: Session, request: BackupRequest, begin: datetime) -> BackupResult:
    chain = open_chain(session, excuses_lost=request.full)
    if resumed := resume_upload(session, chain):
        chain = open_chain(session, excuses_lost=request.full)
    can_continue = chain.can_continue(session.secret) and not request.full and not is_too_long(chain.head)
    last = chain.prepare_last_metadata(session.paths) if can_continue else None
    with fresh_folder(session.paths.stage) as folder, fresh_folder(session.paths.cache / "work") as work:
        state = collect_state(session, request.overrides, keep=True)
        totals = write_metadata(session, state, folder, MetadataJob(request.parts, session.paths.index, last))
        difference = compare_with_last(last, folder, work, chain.uncertain)
        outside = find_outside(session, state.rules, state.found.unwalked, keep=True)
        delta = report_delta(totals, state, outside, (session.clock() - begin).total_seconds())
        if chain.head and last and difference.is_empty and has_same_gaps(chain.head.skipped, totals.skipped):
            log.info("nothing changed since snapshot %s", chain.head.snapshot)
            update_key_file(session, chain.backend)
            return report_snapshot(delta, resumed, resumed) if resumed else replace(delta, snapshot=chain.head.snapshot)
        base = chain.head if last else None
        counts = count_snapshot(difference, totals, state, request.parts, Kind.INCREMENTAL if last else Kind.FULL)
        with hold_target(session, chain):
            prepare_target(session, chain, open_spool(session, chain.backend), base)
            entry = encode_snapshot(session, chain, EncodeJob(folder, work, difference, counts, totals.skipped, base))
            sealed = upload_and_seal(session, chain, entry, folder)
        update_key_file(session, chain.backend)
    seconds = (session.clock() - begin).total_seconds()
    return replace(report_snapshot(delta, sealed, resumed), counts=counts, seconds=seconds)


def preview_snapshot(session: Session, request: BackupRequest) -> BackupResult:
    """Report what a backup would store, by the metadata of the last snapshot kept here; leave nothing behind."""
    begin = session.clock()
    last = session.paths.last if session.paths.last.is_dir() and not request.full else None
    with TemporaryDirectory(prefix="tklb-") as top:
        folder, work = private_folder(Path(top, "stage")), private_folder(Path(top, "work"))
        state = collect_state(session, request.overrides)
        job = MetadataJob(request.parts, work / "index", last, list_databases)
        totals = write_metadata(session, state, folder, job)
        difference = compare_with_last(last, folder, work, frozenset())
    difference = replace(difference, has_other_dumps=False)  # nothing was dumped
    outside = find_outside(session, state.rules, state.found.unwalked)
    delta = report_delta(totals, state, outside, (session.clock() - begin).total_seconds())
    if last and difference.is_empty:
        return delta
    kind = Kind.INCREMENTAL if last else Kind.FULL
    return replace(delta, kind=kind, counts=count_snapshot(difference, totals, state, request.parts, kind))
