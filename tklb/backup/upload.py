"""Upload the volumes of an encoded snapshot to a distant target, confirm each one, and seal.

The next run resumes an interrupted upload, volume by volume, and removes volumes that no ledger entry names.
"""

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from tklb.backup import resume
from tklb.backup.chain import Chain, hold_target
from tklb.backup.resume import PendingUpload
from tklb.base.measure import Stopwatch, format_count, format_transfer
from tklb.engine.duplicity import clean_spool
from tklb.errors import TargetDamaged
from tklb.ledger.seal import seal
from tklb.model.snapshot import LedgerEntry, Volume
from tklb.model.target import Permanence
from tklb.session import Session
from tklb.snapshot import metadata
from tklb.snapshot.kept import keep_metadata
from tklb.storage.backend import Backend
from tklb.storage.copies import repair_chain
from tklb.storage.probe import TargetTraits, read_traits, remember_traits
from tklb.storage.upload import check_present, remove_leftovers, upload_volumes

log = logging.getLogger(__name__)


def prepare_target(session: Session, chain: Chain, spool: Path, base: LedgerEntry | None) -> None:
    """Remove what a killed run left in the spool and at the target, and make sure that the target has all of `base`.

    Repairs volumes that the target lacks and the spool has whole. Raises TargetDamaged for a chain with a hole.
    """
    clean_spool(spool, chain.volume_names)
    if chain.backend.spool is not None:
        chain.backend.tidy()
        return
    _remove_leftovers(session, chain)
    volumes = base.volumes if base else ()
    if repair_chain(chain.backend, volumes, (spool,), session.paths.cache / "repair"):
        check_present(chain.backend, volumes, "so nothing can be added to it; `tklb backup --full` starts a new chain")


def _remove_leftovers(session: Session, chain: Chain) -> None:
    """Delete what killed runs left at the target. What must stay there is reported once, and in nobody's way."""
    path, address = session.paths.target_traits, chain.backend.address
    traits = read_traits(path, address)
    left = remove_leftovers(chain.backend, chain.volume_names, is_write_once=traits.is_write_once)
    if new := sorted(set(left.kept) - set(traits.left)):
        count = format_count(len(new), "volume")
        log.warning("%s of an interrupted run must stay at %s, and nothing reads them: %s", count, address, new[0])
    permanence = Permanence.APPEND_ONLY if left.kept and not traits.is_write_once else traits.permanence
    if left.kept != traits.left or permanence != traits.permanence:
        remember_traits(path, TargetTraits(address, permanence, left.kept))


def upload_and_seal(session: Session, chain: Chain, entry: LedgerEntry, folder: Path) -> LedgerEntry:
    """Bring an encoded snapshot to its target and seal it; give the entry as sealed. `folder` has its metadata."""
    if chain.backend.spool is not None:
        return seal_and_keep(session, chain, entry, folder)
    pending = resume.note_pending(session.paths, session.secret, chain.backend.address, entry, folder)
    return upload_pending(session, chain, pending)


def upload_pending(session: Session, chain: Chain, pending: PendingUpload) -> LedgerEntry:
    """Upload the volumes that are not confirmed yet, and seal. Until the seal a later run can resume the upload.

    Uploads once more what the target confirmed and then lost. Raises TargetDamaged where it loses that again.
    """
    paths, target = session.paths, chain.backend
    try:
        _upload(session, target, pending)
        check_present(target, pending.entry.volumes)
    except TargetDamaged:
        pending = resume.forget_confirmations(paths, pending)
        _upload(session, target, pending)
        check_present(target, pending.entry.volumes)
    sealed = seal_and_keep(session, chain, pending.entry, pending.folder)
    resume.drop_pending(paths)
    trim_spool(paths.spool, (*chain.entries, sealed), session.config.keep_local)
    return sealed


def _upload(session: Session, backend: Backend, pending: PendingUpload) -> None:
    watch, volumes = Stopwatch(), pending.unconfirmed_volumes
    size, left = (sum(volume.size for volume in some) for some in (pending.own_volumes, volumes))
    upload_volumes(
        backend,
        session.paths.spool,
        volumes,
        session.config.uploads,
        lambda volume: resume.confirm_volume(session.paths, volume),
        lambda sent: session.progress("uploading", size - left + sent, size),
    )
    log.info("uploaded %s, %s", format_count(len(volumes), "volume"), format_transfer(left, watch))


def resume_upload(session: Session, chain: Chain) -> LedgerEntry | None:
    """Finish the upload that a run was interrupted in; None where there is none that fits the target."""
    pending = resume.find_pending(session.paths, session.secret, chain.backend.address)
    if pending and chain.backend.spool is None and _can_resume(chain, pending, session.paths.spool):
        left, all_volumes = len(pending.unconfirmed_volumes), format_count(len(pending.own_volumes), "volume")
        log.info("resuming the upload of snapshot %s: %d of %s left", pending.entry.snapshot, left, all_volumes)
        with hold_target(session, chain):
            return upload_pending(session, chain, pending)
    if pending and _is_sealed(chain, pending):  # the run that sealed it was killed before it could note that
        keep_metadata(session.paths, pending.folder)
        trim_spool(session.paths.spool, chain.entries, session.config.keep_local)
    resume.drop_pending(session.paths)
    return None


def _is_sealed(chain: Chain, pending: PendingUpload) -> bool:
    head, entry = chain.head, pending.entry
    is_head = head is not None and (head.snapshot, head.volumes) == (entry.snapshot, entry.volumes)
    return is_head and metadata.digest(pending.folder) == entry.content_digest


def trim_spool(spool: Path, entries: Sequence[LedgerEntry], keep: str) -> None:
    """Keep in the spool those volumes of the distant target that `keep` says: none, chain (the newest) or all."""
    kept = {"none": entries[:0], "chain": entries[-1:], "all": entries}[keep]
    clean_spool(spool, {volume.name for entry in kept for volume in entry.volumes})


def seal_and_keep(session: Session, chain: Chain, entry: LedgerEntry, folder: Path) -> LedgerEntry:
    """Seal: from now on the snapshot exists. The next run compares with its metadata."""
    entry = replace(entry, installation=chain.installation)
    folder_of_ledger, excuses_lost = session.paths.ledger, chain.excuses_lost
    sealed = seal(chain.backend, session.secret, folder_of_ledger, entry, session.older, excuses_lost=excuses_lost)
    keep_metadata(session.paths, folder)
    return sealed


def _can_resume(chain: Chain, pending: PendingUpload, spool: Path) -> bool:
    """Whether the snapshot comes right after the newest one, and is still whole."""
    entry = pending.entry
    before = {volume.name: volume for volume in chain.head.volumes} if chain.head else {}
    base = {volume.name: volume for volume in entry.volumes if volume.name not in entry.own_volumes}
    is_next = entry.sequence == chain.place.sequence and entry.snapshot > chain.place.newest
    return (
        is_next
        and all(before.get(name) == volume for name, volume in base.items())
        and all(_has_size(spool / volume.name, volume.size) for volume in pending.own_volumes)
        and metadata.digest(pending.folder) == entry.content_digest
        and _has_all(chain.backend, base.values())
    )


def _has_all(backend: Backend, volumes: Collection[Volume]) -> bool:
    """Whether the target has the volumes that the snapshot builds on; without them a resume makes no sense."""
    try:
        check_present(backend, volumes)
    except TargetDamaged:
        return False
    return True


def _has_size(path: Path, size: int) -> bool:
    try:
        return os.lstat(path).st_size == size
    except FileNotFoundError:
        return False
