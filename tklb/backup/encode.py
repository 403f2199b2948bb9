"""From stage to sealed snapshot: hand the files to the engine, check what it read, seal.

Until the seal is written nothing of it counts; what a failed run leaves among the volumes goes with the next push.
"""

import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from tklb.backup import resume
from tklb.backup.chain import Chain
from tklb.backup.changes import Difference
from tklb.backup.upload import prepare_target, seal_and_keep, upload_snapshot
from tklb.base.fs import private_folder, report_full_disk
from tklb.diff.listing import has_word, records
from tklb.engine.duplicity import EncodedSet, EncodeOrder, Engine, encode_all, prefix_of, shards_that_pay
from tklb.errors import NoSpace, TargetFull
from tklb.model.report import Skipped
from tklb.model.snapshot import Counts, Kind, LedgerEntry, Shard, Volume, snapshot_id, snapshot_time
from tklb.session import Session
from tklb.snapshot import metadata
from tklb.snapshot.machine import this_machine
from tklb.storage.backend import Backend
from tklb.storage.local import explain_os_error
from tklb.storage.transfer import fetch_volumes


@dataclass(frozen=True, slots=True)
class EncodeJob:
    """A staged snapshot, ready to go."""

    stage: Path
    work: Path
    difference: Difference
    counts: Counts
    skipped: tuple[Skipped, ...]
    full: bool


def encode_snapshot(setting: Session, chain: Chain, order: EncodeJob) -> LedgerEntry:
    """Encode the stage and the files it names, store, and seal. Where engine or target fail, nothing was taken."""
    target = chain.target
    spool = target.spool or private_folder(setting.paths.spool)
    base = None if order.full else chain.head
    prepare_target(setting, chain, spool, base)
    with _naming(spool, target):
        record = _encoded(setting, chain, order, base, spool)
    if target.spool is None:
        found = resume.note_pending(setting.paths, setting.secret, target.address, record, order.stage)
        return upload_snapshot(setting, chain, found)
    return seal_and_keep(setting, chain, record, order.stage)


@contextmanager
def _naming(spool: Path, target: Backend) -> Iterator[None]:
    """A failure in the target's own folder is the target's; one in a spool beside it is this machine's."""
    try:
        yield
    except TargetFull as exc:
        if target.spool is not None:
            raise
        raise NoSpace(path=spool, reason="the volumes need room there until they are uploaded") from exc
    except OSError as exc:
        if spool not in Path(os.fsdecode(exc.filename or "")).parents or target.spool is None:
            raise
        raise explain_os_error(exc, target.address) from exc


def _encoded(setting: Session, chain: Chain, order: EncodeJob, base: LedgerEntry | None, spool: Path) -> LedgerEntry:
    name = _label(setting.clock(), chain.head)
    shards = _shards(setting, order, base)
    pushes = [
        EncodeOrder(
            spool=spool,
            names=names,
            forced=order.difference.edited,
            time=snapshot_time(name),
            base=base.volumes if base else (),
            prefix=prefix,
            volume_megabytes=setting.config.volume_megabytes,
            bring=None if chain.target.spool else partial(_bring, chain.target),
        )
        for prefix, names in _name_lists(order, shards).items()
    ]
    engine = Engine(setting.paths.cache, setting.secret)
    pushed = encode_all(engine, pushes, lambda done: setting.progress("storing", done, order.difference.size))
    return _record(setting, chain, order, base, name, shards, pushed)


def _bring(target: Backend, volume: Volume, destination: Path) -> None:
    fetch_volumes(target, (volume,), destination.parent)


def _record(
    setting: Session,
    chain: Chain,
    order: EncodeJob,
    base: LedgerEntry | None,
    name: str,
    shards: tuple[str, ...],
    pushed: tuple[EncodedSet, ...],
) -> LedgerEntry:
    amended, replaced = _moved(order, pushed)
    own = tuple(volume for push in pushed for volume in push.volumes)
    lost = (item for push in pushed for item in push.skipped)
    moved = (Skipped(path, "changed while being read") for path in sorted(amended))
    named = {item.item: item for item in reversed((*order.skipped, *lost, *replaced, *moved))}
    machine = this_machine(setting.host, setting.profile.id, setting.profile.services, frozenset())
    return LedgerEntry(
        sequence=chain.head.sequence + 1 if chain.head else 1,
        snapshot=name,
        kind=Kind.INCREMENTAL if base else Kind.FULL,
        previous="",
        host=setting.host,
        hostname=machine.hostname,
        profile=setting.profile.id,
        profile_digest=setting.profile.digest,
        release=machine.release,
        stage=str(setting.paths.stage)[1:],
        volumes=(*(base.volumes if base else ()), *own),
        own_volumes=tuple(volume.name for volume in own),
        shards=tuple(Shard(prefix, snapshot_time(name)) for prefix in shards),
        counts=order.counts,
        content_digest=metadata.digest(order.stage),
        amended=tuple(sorted(amended.items())),
        skipped=tuple(reversed(named.values())),
        older=chain.older_secrets(setting.secret),
    )


def _label(now: datetime, head: LedgerEntry | None) -> str:
    """The id of the new snapshot: now, but always later than the last one, whatever the clock says."""
    return snapshot_id(max(now, head.time + timedelta(seconds=1)) if head else now)


def _shards(setting: Session, order: EncodeJob, base: LedgerEntry | None) -> tuple[str, ...]:
    if base:
        return tuple(shard.prefix for shard in base.shards)
    count = setting.config.shards or shards_that_pay(order.counts.delta_bytes)
    return tuple(map(prefix_of, range(count)))


def _name_lists(order: EncodeJob, shards: tuple[str, ...]) -> dict[str, Path]:
    """Write the list of each shard. A name's shard follows from the name alone, so that it never moves in a chain."""
    lists = {prefix: order.work / f"names-{number}" for number, prefix in enumerate(shards)}
    with report_full_disk(order.work), ExitStack() as streams:
        outs = [streams.enter_context(path.open("xb")) for path in lists.values()]
        for path in metadata.record_files(order.stage):
            outs[0].write(os.fsencode(path)[1:] + b"\0")
        for name in _dumps_and_files(order.stage):
            outs[zlib.crc32(name) % len(outs)].write(name[1:] + b"\0")
    return lists


def _dumps_and_files(stage: Path) -> Iterator[bytes]:
    """All of a snapshot but its records. Of an SQLite database that was copied, the copy is among the dumps."""
    top = os.fsencode(stage)
    copied = {path for path, _ in metadata.read_copies(stage)}
    with metadata.open_manifest(stage, metadata.DUMPS_LISTING) as dumps, metadata.open_manifest(stage) as manifest:
        yield from (top + path for path, _ in records(dumps))
        yield from (path for path, _ in records(manifest) if path not in copied)


def _moved(order: EncodeJob, pushed: tuple[EncodedSet, ...]) -> tuple[dict[bytes, str], list[Skipped]]:
    """The files whose content, as the engine read it, is not what the manifest says; and those that are none now."""
    read: dict[bytes, str] = {}
    for push in pushed:
        read.update(push.as_read)
    edited = b"" if order.full else order.difference.edited.read_bytes()
    expected = {b"/" + name for name in edited.split(b"\0")}
    copied = {path for path, _ in metadata.read_copies(order.stage)}
    amended, replaced = {}, []
    with metadata.open_manifest(order.stage) as manifest:
        for path, raw in records(manifest):
            if path in copied:
                continue
            if path in read:
                if not has_word(raw, b"sha256digest=" + read[path].encode()):
                    amended[path] = read[path]
            elif (order.full or path in expected) and has_word(raw, b"type=file"):
                replaced.append(Skipped(path, "it became something else before it was read"))
    return amended, replaced
