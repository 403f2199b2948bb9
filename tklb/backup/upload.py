"""From a finished set to a sealed snapshot: make room for it, bring it to a distant target, confirm, seal, settle.

An interrupted upload is gone on with by the next run, volume by volume; what is no part of it is taken away.
"""

import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from tklb.backup import resume
from tklb.backup.chain import Chain
from tklb.backup.resume import PendingUpload
from tklb.engine.duplicity import clean_spool
from tklb.errors import TargetDamaged
from tklb.ledger.seal import seal
from tklb.model.snapshot import LedgerEntry, Volume
from tklb.session import Session
from tklb.snapshot import metadata
from tklb.snapshot.kept import keep_metadata
from tklb.storage.backend import Backend
from tklb.storage.copies import repair_chain
from tklb.storage.upload import check_there, clean_target, upload

log = logging.getLogger(__name__)


def prepare_target(setting: Session, chain: Chain, spool: Path, base: LedgerEntry | None) -> None:
    """Take away what a killed run left in the spool and at the target, which must have all of `base`.

    What it lacks and this machine has kept is put back. Raises TargetDamaged for a chain with a hole.
    """
    clean_spool(spool, chain.sealed)
    if chain.target.spool is not None:
        chain.target.tidy()
        return
    clean_target(chain.target, chain.sealed)
    volumes = base.volumes if base else ()
    if repair_chain(chain.target, volumes, (spool,), setting.paths.cache / "mending"):
        check_there(chain.target, volumes, "so nothing can be added to it; `tklb backup --full` begins anew")


def upload_snapshot(setting: Session, chain: Chain, found: PendingUpload) -> LedgerEntry:
    """Bring a set that is encoded to its distant target, and seal it. It can be gone on with until it is sealed.

    What the target confirmed and then lost is sent once more. Raises TargetDamaged where it is lost again.
    """
    paths, target = setting.paths, chain.target
    try:
        _send(setting, target, found)
        check_there(target, found.record.volumes)
    except TargetDamaged:
        found = resume.forget_confirmations(paths, found)
        _send(setting, target, found)
        check_there(target, found.record.volumes)
    record = seal_and_keep(setting, chain, found.record, found.stage)
    resume.drop_pending(paths)
    settle_spool(paths.spool, (*chain.entries, record), setting.config.keep_local)
    return record


def _send(setting: Session, target: Backend, found: PendingUpload) -> None:
    size = sum(volume.size for volume in found.own)
    before = size - sum(volume.size for volume in found.missing)
    upload(
        target,
        setting.paths.spool,
        found.missing,
        setting.config.uploads,
        lambda volume: resume.confirm_volume(setting.paths, volume),
        lambda sent: setting.progress("uploading", before + sent, size),
    )


def resume_upload(setting: Session, chain: Chain) -> LedgerEntry | None:
    """Finish the upload of a set that an interrupted run had encoded; None where there is none that fits."""
    found = resume.find_pending(setting.paths, setting.secret, chain.target.address)
    if found and chain.target.spool is None and _fits(chain, found, setting.paths.spool):
        log.info("going on with the upload of %s", found.record.snapshot)
        return upload_snapshot(setting, chain, found)
    if found and _is_sealed(chain, found):  # the run that sealed it did not hear of it
        keep_metadata(setting.paths, found.stage)
        settle_spool(setting.paths.spool, chain.entries, setting.config.keep_local)
    resume.drop_pending(setting.paths)
    return None


def _is_sealed(chain: Chain, found: PendingUpload) -> bool:
    head, record = chain.head, found.record
    is_head = head is not None and (head.snapshot, head.volumes) == (record.snapshot, record.volumes)
    return is_head and metadata.digest(found.stage) == record.content_digest


def settle_spool(spool: Path, records: Sequence[LedgerEntry], keep: str) -> None:
    """Leave on this machine what it shall keep of what the distant target has: nothing, the newest chain, or all."""
    kept = {"none": records[:0], "chain": records[-1:], "all": records}[keep]
    clean_spool(spool, {volume.name for record in kept for volume in record.volumes})


def seal_and_keep(setting: Session, chain: Chain, record: LedgerEntry, stage: Path) -> LedgerEntry:
    """Seal: from now on the snapshot exists. Its records are those the next run compares with."""
    sealed = seal(chain.target, setting.secret, setting.paths.ledger, record, setting.older)
    keep_metadata(setting.paths, stage)
    return sealed


def _fits(chain: Chain, found: PendingUpload, spool: Path) -> bool:
    """Whether the set comes right after the newest snapshot, and is still whole."""
    record = found.record
    before = {volume.name: volume for volume in chain.head.volumes} if chain.head else {}
    base = {volume.name: volume for volume in record.volumes if volume.name not in record.own_volumes}
    sequence = chain.head.sequence + 1 if chain.head else 1
    is_next = record.sequence == sequence and (chain.head is None or record.snapshot > chain.head.snapshot)
    return (
        is_next
        and all(before.get(name) == volume for name, volume in base.items())
        and all(_is_there(spool / volume.name, volume.size) for volume in found.own)
        and metadata.digest(found.stage) == record.content_digest
        and _has_all(chain.target, base.values())
    )


def _has_all(target: Backend, volumes: Collection[Volume]) -> bool:
    """Whether what the set builds on is there; else there is nothing to go on with."""
    try:
        check_there(target, volumes)
    except TargetDamaged:
        return False
    return True


def _is_there(path: Path, size: int) -> bool:
    try:
        return os.lstat(path).st_size == size
    except FileNotFoundError:
        return False
