"""Download the volumes of a snapshot and decode them into a private folder, each checked before it is used."""

import os
from pathlib import Path

from tklb.base.fs import private_folder, remove_tree
from tklb.engine.duplicity import CheckedVolumes, Engine, decode_all, select_restore_volumes
from tklb.errors import NoSpace
from tklb.restore.open import SnapshotSource
from tklb.session import TargetSession
from tklb.storage.download import download_in_background


def decode(session: TargetSession, source: SnapshotSource, work: Path) -> tuple[Path, ...]:
    """Fetch and decode into folders under `work`, one a shard. Raises TargetDamaged, NoSpace, ProgramFailed."""
    record = source.record
    needed = select_restore_volumes(record.volumes)
    amount = sum(volume.size for volume in needed)
    plain = record.counts.delta_bytes + record.counts.database_bytes
    _need_space(work, plain + amount, record.counts.delta_files)
    volumes = private_folder(work / "volumes")
    engine = Engine(session.paths.cache, source.secret)
    folders = tuple(private_folder(work / f"files-{number}") for number in range(len(record.shards)))
    pulls = tuple(zip(folders, record.shards, strict=True))
    fetched = 0

    def fetching(done: int) -> None:
        nonlocal fetched
        fetched = done
        session.progress("fetching", done, amount)

    def decoding(done: int) -> None:
        check()
        if fetched == amount:
            session.progress("decoding", done, plain)

    with download_in_background(source.target, needed, volumes, session.config.uploads, fetching) as check:
        decode_all(engine, CheckedVolumes(volumes, tuple(volume.name for volume in needed)), pulls, decoding)
    remove_tree(volumes)
    return folders


def _need_space(folder: Path, amount: int, files: int) -> None:
    room = os.statvfs(folder)
    if amount > (free := room.f_bavail * room.f_frsize):
        raise NoSpace(path=folder, reason=f"the snapshot needs {amount} bytes, {free} are free")
    if room.f_files and files > room.f_favail:
        raise NoSpace(path=folder, reason=f"the snapshot has {files} files, {room.f_favail} inodes are free")
