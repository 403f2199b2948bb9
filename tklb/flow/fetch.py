"""From a sealed snapshot to a private folder of decoded files: check the seal, fetch, check every volume, decode.

Nothing the seal does not name is ever looked at. Decoding begins with the first volumes, while others still come.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tklb import config as configuration
from tklb.config import Paths
from tklb.durable import private_folder, remove_tree
from tklb.errors import KeyUnusable, NoSpace, NotInitialised, SnapshotUnknown
from tklb.keys.armour import LONGEST_KEY_FILE
from tklb.keys.keyfile import open_key, read_key_text
from tklb.keys.secret import fingerprint, read_older, read_secret
from tklb.model import Progress, Record, Secret, snapshot_time
from tklb.store.download import downloading
from tklb.store.engine import Engine, Volumes, pull_all, restore_volumes
from tklb.store.ledger import Ledger, read_ledger
from tklb.store.target import KEY, Target
from tklb.store.targets import open_target

LATEST = "latest"


def nobody() -> Secret:
    """Who is asked for a passphrase where nobody can be."""
    raise KeyUnusable(reason="it needs a passphrase, and --passphrase-file was not given")


@dataclass(frozen=True, slots=True)
class Access:
    """How a target is found and opened.

    `ask` gives the passphrase and is called only where one is needed; with `by_passphrase` the key kept at the target
    is wanted, whatever key this machine has.
    """

    address: str | None = None  # the configured one
    key: Path | None = None
    ask: Callable[[], Secret] = nobody
    by_passphrase: bool = False
    limit_rate: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A key. `wrapped` is the key file of the target that it came from, "" where it came from elsewhere."""

    secret: Secret
    wrapped: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a snapshot comes from, and what opens it: `secret`. `current` is the key that seals from now on.

    `older` are the keys before; `wrapped` is the key file that the target keeps, where the passphrase
    opened it, else "": what nobody opened may be anybody's.
    """

    target: Target
    secret: Secret
    record: Record
    current: Secret
    older: tuple[Secret, ...] = ()
    wrapped: str = ""
    problems: tuple[str, ...] = ()  # what is wrong with the rest of the ledger


def find_snapshot(paths: Paths, wanted: str, access: Access) -> Source:
    """Open the target and pick the snapshot. Raises what is wrong with key, target or snapshot."""
    target, ledger, opened = open_ledger(paths, access)
    current = opened.secret
    if wanted == LATEST:
        _refuse_older_key(ledger)
        ledger.check()  # the damage may hide a newer one
    record = choose(ledger.records, wanted, target.address)
    return Source(
        target=target,
        secret=ledger.secrets[record.key],
        record=record,
        current=current,
        older=tuple(secret for secret in ledger.secrets.values() if fingerprint(secret) != fingerprint(current)),
        wrapped=opened.wrapped,
        problems=ledger.problems,
    )


def _refuse_older_key(ledger: Ledger) -> None:
    if ledger.later and ledger.records:
        raise KeyUnusable(
            reason=f"{ledger.later} snapshots after {ledger.records[-1].snapshot} were sealed with another key: give"
            " the newer key if it was changed, else somebody else wrote there; those before can be named one by one"
        )


def open_ledger(paths: Paths, access: Access) -> tuple[Target, Ledger, Opened]:
    """The target, all that its ledger has, and the key. Raises what is wrong with key or target.

    The key is that of the key file; else this machine's, unless it does not fit; else the one the target keeps.
    """
    config = configuration.load_or_default(paths)
    if access.address is None and access.key is None and not paths.toml.exists():
        raise NotInitialised(reason="it has no key and no target")
    config = replace(config, limit_rate=access.limit_rate or config.limit_rate)
    target = open_target(config.target if access.address is None else access.address, config, paths.regions)
    older = read_older(paths.older_secrets)

    def read(key: Opened) -> tuple[Target, Ledger, Opened]:
        return target, read_ledger(target, key.secret, paths.ledger, older, thorough=True), key

    if access.key is not None:
        return read(Opened(open_key(read_key_text(access.key), access.ask)))
    if paths.secret.exists() and not access.by_passphrase:
        try:
            return read(Opened(read_secret(paths.secret)))
        except KeyUnusable:
            if not _kept_at(target):
                raise
    return read(_opened_at(target, access.ask))


def _opened_at(target: Target, ask: Callable[[], Secret]) -> Opened:
    """The key that the target keeps: only by a passphrase, for whoever can write there could put another there."""
    from tklb.keys.wrap import unwrap

    text = _kept_at(target)
    if not text:
        reason = f"this machine has none, --key was not given, and {target.address} keeps none"
        raise KeyUnusable(reason=reason)
    return Opened(unwrap(text, ask()), text)


def _kept_at(target: Target) -> str:
    if target.stat(KEY) is None:
        return ""
    return target.read(KEY, LONGEST_KEY_FILE).decode("utf-8", "replace")


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
    count = configuration.load_or_default(paths).uploads
    engine = Engine(paths.cache, source.secret)
    folders = tuple(private_folder(work / f"files-{number}") for number in range(len(record.shards)))
    pulls = tuple(zip(folders, record.shards, strict=True))
    fetched = 0

    def fetching(done: int) -> None:
        nonlocal fetched
        fetched = done
        progress("fetching", done, amount)

    def decoding(done: int) -> None:
        check()
        if fetched == amount:
            progress("decoding", done, plain)

    with downloading(source.target, needed, volumes, count, fetching) as check:
        pull_all(engine, Volumes(volumes, tuple(volume.name for volume in needed)), pulls, decoding)
    remove_tree(volumes)
    return folders


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
