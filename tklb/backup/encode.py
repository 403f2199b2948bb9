"""Encode the snapshot: hand the files to the engine, and check that it read the content that the manifest describes.

Until the seal nothing of it counts; the next run discards the volumes that a failed run left.
"""

import hashlib
import logging
import os
import re
import resource
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO

from tklb.backup.chain import Chain
from tklb.backup.changes import Difference
from tklb.base.fs import KINDS, private_folder, report_full_disk
from tklb.base.measure import Stopwatch, format_count, format_size, format_transfer
from tklb.config.paths import ROOT
from tklb.diff.listing import has_word, read_records, size_in
from tklb.engine.duplicity import EncodedSet, EncodeOrder, Engine, count_shards, encode_all, shard_prefix
from tklb.engine.picked_files import Identity, format_name
from tklb.errors import NoSpace, TargetFull
from tklb.host.files.openat import RootedTree
from tklb.lazy_dataclass import dataclass
from tklb.model.report import Skipped
from tklb.model.snapshot import (
    OPEN_FILES_A_SET,
    OTHER_OPEN_FILES,
    Counts,
    Kind,
    LedgerEntry,
    Shard,
    Volume,
    count_sets,
    snapshot_id,
    snapshot_time,
)
from tklb.session import Session
from tklb.snapshot import metadata
from tklb.snapshot.machine import this_machine
from tklb.storage.backend import Backend
from tklb.storage.local import explain_os_error
from tklb.storage.transfer import download_volume

log = logging.getLogger(__name__)

_BLOCK = 1 << 16
_IDENTITY = re.compile(rb" type=(\w+) mode=([0-7]+) uid=(\d+) gid=(\d+)[^\0]*? dev=(\d+) inode=(\d+)(?: |\n)")
_KINDS = {kind.encode(): mode for mode, kind in KINDS.items()}


def is_too_long(head: LedgerEntry | None, limit: int | None = None) -> bool:
    """Whether a machine with this hard limit of open files could not decode a longer chain.

    Each set of a chain takes two files while it is decoded. None is the limit of this process.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if limit is None else limit
    sets = count_sets(head) + 1 if head else 0
    is_long = 0 < most < sets * OPEN_FILES_A_SET + OTHER_OPEN_FILES
    if is_long:
        log.warning("a new chain begins: %d open files, the limit here, do not suffice to restore %d sets", most, sets)
    return is_long


@dataclass(frozen=True, slots=True)
class EncodeJob:
    """A snapshot whose metadata is written, ready for the engine. `base` is the entry that it continues, if any."""

    folder: Path  # the snapshot metadata
    work: Path
    difference: Difference
    counts: Counts
    skipped: tuple[Skipped, ...]
    base: LedgerEntry | None


@dataclass(frozen=True, slots=True)
class ReadCheck:
    """How the content that the engine read differs from the manifest.

    `changed` has the SHA-256, as stored, of each file that changed before it was read; `grown` are those of them that
    only grew, as logs do; `replaced` are paths that became something else.
    """

    changed: dict[bytes, str]
    grown: frozenset[bytes]
    replaced: tuple[Skipped, ...]


def open_spool(session: Session, backend: Backend) -> Path:
    """Where the engine writes volumes: the folder of a local target, else the spool of this machine."""
    return backend.spool or private_folder(session.paths.spool)


def encode_snapshot(session: Session, chain: Chain, job: EncodeJob) -> LedgerEntry:
    """Encode the metadata and the files that it names into the spool; give the entry that a seal adds to the ledger.

    Raises what the engine raises; then the spool has nothing that counts.
    """
    name = _choose_id(session.clock(), chain.place.newest)
    shards = _choose_shards(session, job)
    spool, watch = open_spool(session, chain.backend), Stopwatch()
    with _explain_failure(spool, chain.backend):
        orders = [
            _order(session, chain, job, snapshot_time(name), each) for each in _write_name_lists(job, shards).items()
        ]
        engine = Engine(session.paths.cache, session.secret)
        sets = encode_all(engine, orders, lambda done: session.progress("encoding", done, job.difference.size))
    entry = _build_entry(session, chain, job, name, shards, sets)
    log.info(
        "encoded %s (%s) from files of %s",
        format_count(len(entry.own_volumes), "volume"),
        format_size(entry.stored_bytes),
        format_transfer(job.difference.size, watch),
    )
    return entry


@contextmanager
def _explain_failure(spool: Path, backend: Backend) -> Iterator[None]:
    """A failure in the target's own folder is the target's; one in a spool beside it is this machine's."""
    try:
        yield
    except TargetFull as exc:
        if backend.spool is not None:
            raise
        raise NoSpace(path=spool, reason="the volumes need room there until they are uploaded") from exc
    except OSError as exc:
        if spool not in Path(os.fsdecode(exc.filename or "")).parents or backend.spool is None:
            raise
        raise explain_os_error(exc, backend.address) from exc


def _order(
    session: Session, chain: Chain, job: EncodeJob, moment: datetime, name_list: tuple[str, Path]
) -> EncodeOrder:
    prefix, names = name_list
    return EncodeOrder(
        spool=open_spool(session, chain.backend),
        names=names,
        forced=job.difference.edited,
        time=moment,
        base=job.base.volumes if job.base else (),
        prefix=prefix,
        volume_megabytes=session.config.volume_megabytes,
        download=None if chain.backend.spool else partial(_download, chain.backend),
    )


def _download(backend: Backend, volume: Volume, destination: Path) -> None:
    download_volume(backend, volume, destination.parent)


def _build_entry(
    session: Session,
    chain: Chain,
    job: EncodeJob,
    name: str,
    shards: tuple[str, ...],
    sets: tuple[EncodedSet, ...],
) -> LedgerEntry:
    check = check_what_was_read(job, sets)
    own = tuple(volume for each in sets for volume in each.volumes)
    unread = (item for each in sets for item in each.skipped)
    changed = (Skipped(path, "changed while being read") for path in sorted(check.changed.keys() - check.grown))
    skipped = {item.item: item for item in reversed((*job.skipped, *unread, *check.replaced, *changed))}
    machine = this_machine(session.host, session.profile.id, session.profile.services, frozenset())
    return LedgerEntry(
        sequence=chain.place.sequence,
        snapshot=name,
        kind=Kind.INCREMENTAL if job.base else Kind.FULL,
        previous="",
        host=session.host,
        hostname=machine.hostname,
        profile=session.profile.id,
        profile_digest=session.profile.digest,
        release=machine.release,
        stage=str(session.paths.stage)[1:],
        volumes=(*(job.base.volumes if job.base else ()), *own),
        own_volumes=tuple(volume.name for volume in own),
        shards=tuple(Shard(prefix, snapshot_time(name)) for prefix in shards),
        counts=job.counts,
        content_digest=metadata.digest(job.folder),
        changed_while_read=tuple(sorted(check.changed.items())),
        has_one_inode=True,
        skipped=tuple(reversed(skipped.values())),
        older=chain.older_secrets(session.secret),
    )


def _choose_id(now: datetime, newest: str) -> str:
    """The id of the new snapshot: now, but always later than the newest one, whatever the clock shows."""
    return snapshot_id(max(now, snapshot_time(newest) + timedelta(seconds=1)) if newest else now)


def _choose_shards(session: Session, job: EncodeJob) -> tuple[str, ...]:
    if job.base:
        return tuple(shard.prefix for shard in job.base.shards)
    count = session.config.shards or count_shards(job.counts.delta_bytes)
    return tuple(map(shard_prefix, range(count)))


def _write_name_lists(job: EncodeJob, shards: tuple[str, ...]) -> dict[str, Path]:
    """Write the list of each shard. A name's shard follows from the name alone, so it never changes in a chain."""
    lists = {prefix: job.work / f"names-{number}" for number, prefix in enumerate(shards)}
    with report_full_disk(job.work), ExitStack() as streams:
        outs = [streams.enter_context(path.open("xb")) for path in lists.values()]
        for path in metadata.metadata_files(job.folder):
            outs[0].write(format_name(os.fsencode(path)) + b"\0")
        for name, identity in _list_dumps_and_files(job.folder):
            outs[zlib.crc32(name) % len(outs)].write(format_name(name, identity) + b"\0")
    return lists


def _list_dumps_and_files(folder: Path) -> Iterator[tuple[bytes, Identity | None]]:
    """All of a snapshot but its metadata, and which object of the machine each path must be.

    Of an SQLite database that was copied, the copy is among the dumps.
    """
    top = os.fsencode(folder)
    copied = {path for path, _ in metadata.read_copies(folder)}
    with metadata.open_manifest(folder, metadata.DUMPS_LISTING) as dumps, metadata.open_manifest(folder) as manifest:
        yield from ((top + path, None) for path, _ in read_records(dumps))
        yield from ((path, _read_identity(raw)) for path, raw in read_records(manifest) if path not in copied)


def _read_identity(raw: bytes) -> Identity:
    """Read which object a record of a manifest describes. Raises ValueError."""
    match = _IDENTITY.search(raw)
    if match is None:
        raise ValueError(f"a record without device and inode: {raw[:200]!r}")
    kind, mode, uid, gid, device, inode = match.groups()
    return Identity(int(device), int(inode), _KINDS[kind] | int(mode, 8), int(uid), int(gid))


def check_what_was_read(job: EncodeJob, sets: Iterable[EncodedSet]) -> ReadCheck:
    """Compare the digests of the content that the engine read with those in the manifest."""
    read: dict[bytes, str] = {}
    for each in sets:
        read.update(each.as_read)
    edited = job.difference.edited.read_bytes() if job.base else b""
    expected = {b"/" + name for name in edited.split(b"\0")}
    copied = {path for path, _ in metadata.read_copies(job.folder)}
    changed, grown, replaced = {}, set(), []
    with metadata.open_manifest(job.folder) as manifest:
        for path, raw in (record for record in read_records(manifest) if record[0] not in copied):
            if path in read and not has_word(raw, b"sha256digest=" + read[path].encode()):
                changed[path] = read[path]
                grown |= {path} if _has_only_grown(path, raw) else set()
            elif path not in read and (not job.base or path in expected) and has_word(raw, b"type=file"):
                replaced.append(Skipped(path, "it became something else before it was read"))
    return ReadCheck(changed, frozenset(grown), tuple(replaced))


def _has_only_grown(path: bytes, raw: bytes) -> bool:
    """Whether a file still begins with the content that the manifest has, and is longer now.

    Then it began so in between too: the snapshot has this beginning and some of what was added.
    """
    size = size_in(raw)
    try:
        with RootedTree(ROOT) as tree, open(tree.open_file(path), "rb") as stream:
            status = os.fstat(stream.fileno())
            if status.st_size <= size or _read_identity(raw).find_difference(status):
                return False
            return has_word(raw, b"sha256digest=" + _digest_head(stream, size).encode())
    except (OSError, ValueError):
        return False


def _digest_head(stream: IO[bytes], size: int) -> str:
    digest = hashlib.sha256()
    while size and (block := stream.read(min(size, _BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()
