"""Decode snapshots and check their contents, one after the other."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from tklb.base.fs import fresh_folder, remove_tree
from tklb.base.measure import Stopwatch
from tklb.engine.duplicity import select_restore_volumes
from tklb.errors import ProgramFailed, TargetDamaged
from tklb.model.report import Skipped
from tklb.model.snapshot import Kind, LedgerEntry
from tklb.restore.decode import decode
from tklb.restore.dumps import place_copies
from tklb.restore.source import SnapshotSource
from tklb.storage.backend import VOLUMES, Backend
from tklb.storage.download import download_volumes
from tklb.storage.local import LocalBackend
from tklb.verify.contents import check_contents
from tklb.verify.open_target import Verification
from tklb.verify.problem import LostFile, Problem
from tklb.verify.result import VerifyResult

log = logging.getLogger(__name__)


def check_snapshots(verification: Verification, entries: Sequence[LedgerEntry], result: VerifyResult) -> VerifyResult:
    """Decode the snapshots that have no problem so far, and add the problems of their contents to the result."""
    whole = frozenset(result.whole_snapshots)
    known = [entry for entry in entries if entry.snapshot in whole]
    problems = [problem for entry in known for problem in _check_snapshot(verification, entry)]
    closed = sorted(whole - {entry.snapshot for entry in known})
    skipped = tuple(Skipped(snapshot.encode(), "the key it was sealed with is not at hand") for snapshot in closed)
    return replace(result, problems=(*result.problems, *problems), skipped=skipped)


def _check_snapshot(verification: Verification, entry: LedgerEntry) -> Iterator[Problem]:
    secret, watch = verification.ledger.secrets[entry.key], Stopwatch()
    name = f"snapshot {entry.snapshot}"
    with fresh_folder(verification.work / "decoded") as work:
        try:
            source = SnapshotSource(_download_chain(verification, entry), secret, entry, current=secret)
            folders = decode(verification.session, source, work)
            copies = place_copies(work, folders, folders[0] / entry.stage)
            found = tuple(check_contents(folders, copies, entry))
        except (TargetDamaged, ProgramFailed, ValueError, FileNotFoundError) as exc:
            yield Problem(name, "damaged", (entry.snapshot,), exact=False, reason=f"it cannot be decoded: {exc}")
            return
    log.info("decoded and compared snapshot %s in %.1f s: %d files differ", entry.snapshot, watch.seconds, len(found))
    if found:
        losses = tuple(LostFile(one.path, (entry.snapshot,), one.reason) for one in found)
        yield Problem(name, "damaged", (entry.snapshot,), losses, reason="its files are not as its metadata says")


def _download_chain(verification: Verification, entry: LedgerEntry) -> Backend:
    """Give a local target with the snapshot's volumes: a distant chain is downloaded once for all its snapshots."""
    if verification.backend.spool is not None:
        return verification.backend
    folder, session = verification.work / "near", verification.session
    if entry.kind is Kind.FULL:
        remove_tree(folder)
    near = LocalBackend.make(folder)
    missing = [volume for volume in select_restore_volumes(entry.volumes) if near.stat(VOLUMES + volume.name) is None]
    report = partial(session.progress, "downloading")
    total = sum(volume.size for volume in missing)
    download_volumes(
        verification.backend, missing, folder / VOLUMES, session.config.uploads, lambda done: report(done, total)
    )
    return near
