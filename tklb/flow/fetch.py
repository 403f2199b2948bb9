"""From a sealed snapshot to a private folder of decoded files: check the seal, fetch, check every volume, decode.

Nothing the seal does not name is ever looked at.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tklb import config as configuration
from tklb.config import Paths
from tklb.durable import private_folder, remove_tree
from tklb.errors import KeyUnusable, NoSpace, NotInitialised, SnapshotUnknown
from tklb.keys.keyfile import read_key_file
from tklb.keys.secret import read_secret
from tklb.model import Progress, Record, Secret, snapshot_time
from tklb.store.engine import Engine, restore_volumes
from tklb.store.ledger import read_ledger
from tklb.store.objects import fetch_volumes
from tklb.store.target import Target
from tklb.store.targets import open_target

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a snapshot comes from, and the key that opens it."""

    target: Target
    secret: Secret
    record: Record
    problems: tuple[str, ...] = ()  # what is wrong with the rest of the ledger


def find_snapshot(paths: Paths, wanted: str, address: str | None, key: Path | None) -> Source:
    """Open the target and pick the snapshot. Raises what is wrong with key, target or snapshot."""
    if key is not None:
        secret = read_key_file(key)
    elif paths.secret.exists():
        secret = read_secret(paths.secret)
    elif address is not None:
        raise KeyUnusable(reason="this machine has none, and --key was not given")
    else:
        raise NotInitialised(reason="it has no key and no target")
    config = configuration.load_or_default(paths)
    target = open_target(config.target if address is None else address, config)
    ledger = read_ledger(target, secret, paths.ledger)
    if wanted == LATEST:
        ledger.check()  # the damage may hide a newer one
    return Source(target, secret, choose(ledger.records, wanted, target.address), ledger.problems)


def choose(records: Iterable[Record], wanted: str, address: str) -> Record:
    """Pick by id, by `latest`, or by a time: the newest snapshot not after it. Raises SnapshotUnknown."""
    known = list(records)
    if wanted == LATEST and known:
        return known[-1]
    for record in known:
        if record.snapshot == wanted:
            return record
    moment = _moment(wanted)
    if moment is not None:
        known = [record for record in known if record.time <= moment]
        if known and not _is_id(wanted):
            return known[-1]
    raise SnapshotUnknown(snapshot=wanted, address=address)


def decode(source: Source, work: Path, paths: Paths, progress: Progress) -> tuple[Path, ...]:
    """Fetch and decode into folders under `work`, one a shard. Raises TargetDamaged, NoSpace, ProgramFailed."""
    record = source.record
    needed = restore_volumes(record.volumes)
    amount = sum(volume.size for volume in needed)
    plain = record.counts.delta_bytes + record.counts.database_bytes
    _need_space(work, plain + amount, record.counts.delta_files)
    volumes = private_folder(work / "volumes")
    fetch_volumes(source.target, needed, volumes, lambda done: progress("fetching", done, amount))
    engine = Engine(paths.cache, source.secret)
    folders = []
    for number, shard in enumerate(record.shards):
        folder = private_folder(work / f"files-{number}")
        engine.pull(volumes, folder, shard, lambda done: progress("decoding", done, plain))
        folders.append(folder)
    remove_tree(volumes)
    return tuple(folders)


def _need_space(folder: Path, amount: int, files: int) -> None:
    room = os.statvfs(folder)
    if amount > (free := room.f_bavail * room.f_frsize):
        raise NoSpace(path=folder, reason=f"the snapshot needs {amount} bytes, {free} are free")
    if room.f_files and files > room.f_favail:
        raise NoSpace(path=folder, reason=f"the snapshot has {files} files, {room.f_favail} inodes are free")


def _is_id(text: str) -> bool:
    try:
        snapshot_time(text)
    except ValueError:
        return False
    return True


def _moment(text: str) -> datetime | None:
    try:
        moment = snapshot_time(text) if _is_id(text) else datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
