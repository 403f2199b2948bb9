"""Download the volumes of a snapshot and decode them into a private folder, each checked before it is used.

Decoding begins with the first volumes, while the download of the others still runs.
"""

import logging
import os
from pathlib import Path

from tklb.base.fs import free_space, private_folder, remove_tree
from tklb.base.measure import Stopwatch, format_count, format_size, format_transfer
from tklb.engine.duplicity import CheckedVolumes, Engine, decode_all, select_restore_volumes
from tklb.errors import NoSpace
from tklb.restore.source import SnapshotSource
from tklb.session import TargetSession
from tklb.storage.download import download_in_background

log = logging.getLogger(__name__)


def decode(session: TargetSession, source: SnapshotSource, work: Path) -> tuple[Path, ...]:
    """Download and decode into folders under `work`, one a shard. Raises TargetDamaged, NoSpace, ProgramFailed."""
    entry, watch = source.entry, Stopwatch()
    needed = select_restore_volumes(entry.volumes)
    amount, plain = sum(volume.size for volume in needed), entry.counts.delta_bytes + entry.counts.database_bytes
    _need_space(work, plain + amount, entry.counts.delta_files)
    volumes = private_folder(work / "volumes")
    engine = Engine(session.paths.cache, source.secret)
    folders = tuple(private_folder(work / f"files-{number}") for number in range(len(entry.shards)))
    downloaded = 0

    def count_downloaded(done: int) -> None:
        nonlocal downloaded
        downloaded = done
        session.progress("downloading", done, amount)
        if done == amount:
            log.info("downloaded %s, %s", format_count(len(needed), "volume"), format_transfer(amount, watch))

    def count_decoded(done: int) -> None:
        check()
        if downloaded == amount:
            session.progress("decoding", done, plain)

    with download_in_background(source.backend, needed, volumes, session.config.uploads, count_downloaded) as check:
        names = tuple(volume.name for volume in needed)
        decode_all(
            engine, CheckedVolumes(volumes, names), tuple(zip(folders, entry.shards, strict=True)), count_decoded
        )
    remove_tree(volumes)
    log.info(
        "decoded %s, %s, from %s in %.1f s", format_count(entry.counts.delta_files, "file"), format_size(plain),
        format_count(len(folders), "shard"), watch.seconds,
    )  # fmt: skip
    return folders


def _need_space(folder: Path, amount: int, files: int) -> None:
    room = os.statvfs(folder)
    if amount > (free := free_space(folder)):
        raise NoSpace(path=folder, reason=f"the snapshot needs {amount} bytes, {free} are free")
    if room.f_files and files > room.f_favail:
        raise NoSpace(path=folder, reason=f"the snapshot has {files} files, {room.f_favail} inodes are free")
