"""duplicity: files in, encrypted volumes out, and back. It encodes; the ledger alone says what is valid.

Takes names below a source folder and the spool, gives new volumes with size and SHA-256 and says what it read; or
takes checked volumes and gives their files. Touches the spool, the cache (which may be deleted at any time) and, on
the way back, the stage. Every run is a process under a watchdog (child.py, worker.py), works in a folder of its own
beside the volumes, and never sees them: a set is made whole, synced, and only then moved among the others.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Event
from typing import TypeVar

from tklb.base.fs import file_sha256, fresh_folder, private_folder, remove_tree, sync_folder
from tklb.base.python import write_gpg_launcher
from tklb.engine import duplicity_cli, signature_cache
from tklb.engine.duplicity_cli import Folders
from tklb.engine.process import Job, Line, Moved, run_duplicity
from tklb.errors import Interrupted, ProgramFailed, TargetDamaged
from tklb.model.report import Skipped
from tklb.model.secret import Secret
from tklb.model.snapshot import Shard, Volume, snapshot_id
from tklb.model.volume_names import INCOMING, VOLUME_NAME
from tklb.storage.transfer import copy_checked

T = TypeVar("T")
_BYTES_A_SHARD = 64 << 20
_LAST = "manifest.gpg"  # without it a set is none: it comes last


@dataclass(frozen=True, slots=True)
class EncodeOrder:
    """One set to be made.

    `names` is a file of NUL-separated paths below `source`, without leading slashes: all that the snapshot holds.
    What the chain has and this list has not is deleted in the new set. `forced`, of the same form, lists the files to
    be read though size and second of change may be what they were. `base` are the volumes of the snapshot that is
    continued; without any, a new chain begins. `time` is the label of the set, and the snapshot's id. `bring` puts one
    of `base`, checked, where it is told to, in case it is not in the spool.
    """

    spool: Path
    names: Path
    time: datetime
    base: tuple[Volume, ...] = ()
    source: bytes = b"/"
    forced: Path | None = None
    prefix: str = ""
    volume_megabytes: int = 100
    bring: Callable[[Volume, Path], None] | None = None


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """What a push made and read. Paths are absolute.

    `as_read` has every regular file whose content this set stored, and its SHA-256; `changed` those of them that
    changed under the reader; `skipped` what could not be stored: there the set has nothing, what an older set has, or
    a part.
    """

    volumes: tuple[Volume, ...]
    as_read: Mapping[bytes, str]
    changed: tuple[bytes, ...] = ()
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True)
class Volumes:
    """What is decoded: the volumes that restore_volumes() picks, checked, in a private folder.

    Of `names` some may not be there yet: each comes whole, by a rename.
    """

    folder: Path
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Engine:
    """`cache` is ours alone; a run in which nothing moves for `patience` seconds is ended."""

    cache: Path
    secret: Secret
    patience: float = 900.0

    def push(self, order: EncodeOrder, moved: Moved = lambda _count: None) -> EncodedSet:
        """Make one set; `moved` is told the bytes read so far, about twice a second.

        Afterwards the volumes are durable; they count when a seal names them.
        Raises ProgramFailed, TargetFull, NoSpace (the cache), TargetDamaged (the base).
        """
        chain = tuple(volume for volume in order.base if _prefix(volume.name) == order.prefix)
        with fresh_folder(order.spool / f"{INCOMING}{_key(order.prefix)}") as incoming:
            folders = self._folders(incoming, order.prefix)
            wanted = duplicity_cli.SetOptions(
                prefix=order.prefix,
                time=order.time,
                full=not chain,
                megabytes=_volume_size(order),
                synchronise=_show_chain(folders, order, chain),
            )
            arguments = duplicity_cli.backup_arguments(folders, order.source, wanted)
            job = Job(
                duplicity_cli.PUSH,
                folders,
                order.spool,
                arguments,
                self.secret,
                self.patience,
                moved,
                order.names,
                order.forced,
            )
            lines = run_duplicity(job)
            volumes = _take_in(folders.volumes, order, chain)
            signature_cache.remember(folders.archive, (*chain, *volumes))
        return _pushed(volumes, lines)

    def pull(self, volumes: Volumes, stage: Path, shard: Shard, moved: Moved = lambda _count: None) -> None:
        """Decode one shard into `stage`: an empty folder inside a private one, for its mode becomes the source's.

        Owners come back as numbers. Raises ProgramFailed on any complaint of the engine, NoSpace.
        """
        with fresh_folder(self.cache / f"pull-{_key(shard.prefix)}") as work:
            names = work / "names"
            names.write_bytes(b"\0".join(name.encode() for name in volumes.names))
            folders = self._folders(work, shard.prefix, volumes.folder)
            arguments = duplicity_cli.restore_arguments(folders, stage, shard.prefix, shard.time)
            job = Job(duplicity_cli.PULL, folders, stage, arguments, self.secret, self.patience, moved, names)
            run_duplicity(job)

    def _folders(self, work: Path, prefix: str, volumes: Path | None = None) -> Folders:
        private_folder(self.cache)
        return Folders(
            volumes=volumes or private_folder(work / "volumes"),
            archive=private_folder((work if volumes else self.cache) / f"archive-{_key(prefix)}"),
            temporary=private_folder(work / "temporary"),
            front=write_gpg_launcher(self.cache / f"gpg-{_key(prefix)}"),
        )


def encode_all(
    engine: Engine, orders: Sequence[EncodeOrder], moved: Moved = lambda _count: None
) -> tuple[EncodedSet, ...]:
    """Make several sets side by side, one for each shard; `moved` is told the sum. The first failure ends them all."""
    return _all([partial(engine.push, order) for order in orders], moved)


def decode_all(
    engine: Engine, volumes: Volumes, pulls: Sequence[tuple[Path, Shard]], moved: Moved = lambda _count: None
) -> None:
    """Decode shards side by side, each into its folder; otherwise as push_all()."""
    _all([partial(engine.pull, volumes, folder, shard) for folder, shard in pulls], moved)


def _all(works: Sequence[Callable[[Moved], T]], moved: Moved) -> tuple[T, ...]:
    if len(works) == 1:
        return (works[0](moved),)
    done, stop = [0] * len(works), Event()

    def work(number: int) -> T:
        def count(amount: int) -> None:
            if stop.is_set():
                raise Interrupted
            done[number] = amount
            moved(sum(done))

        return works[number](count)

    with ThreadPoolExecutor(max_workers=len(works)) as threads:
        running = [threads.submit(work, number) for number in range(len(works))]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
    failures = [failure for future in running if (failure := future.exception())]
    for failure in sorted(failures, key=lambda failure: isinstance(failure, Interrupted)):
        raise failure
    return tuple(future.result() for future in running)


def prefix_of(number: int) -> str:
    """The file prefix of a shard. The first has none, so that stock duplicity needs no option for it."""
    return f"{'abcdefgh'[number]}-" if number else ""


def shards_that_pay(amount: int) -> int:
    """How many shards are worth their start for so many bytes: one a core, and so many bytes each at least."""
    return max(1, min(len(os.sched_getaffinity(0)), 8, amount // _BYTES_A_SHARD))


def clean_spool(spool: Path, sealed: Collection[str]) -> tuple[str, ...]:
    """Take away what a killed run left in the spool: never resumed, never offered. Gives the names that went.

    `sealed` are the names of the volumes of all snapshots; files that are no volumes are left alone.
    """
    keep = frozenset(sealed)
    gone = []
    for entry in sorted(os.scandir(spool), key=lambda entry: entry.name):
        if entry.name.startswith(INCOMING):
            remove_tree(Path(entry.path))
        elif entry.name not in keep and VOLUME_NAME.fullmatch(entry.name):
            os.unlink(entry.path)
        else:
            continue
        gone.append(entry.name)
    return tuple(gone)


def select_restore_volumes(volumes: Iterable[Volume]) -> tuple[Volume, ...]:
    """Those of a snapshot's volumes that decoding it takes: signatures are only for making increments."""
    return tuple(volume for volume in volumes if not _is_signature(volume.name))


def _show_chain(folders: Folders, order: EncodeOrder, chain: Sequence[Volume]) -> bool:
    """Let duplicity see the chain it continues, and give whether it must read it.

    Where the archive is good, names are enough: empty files. Where it is not, manifests and signatures are copied,
    each checked against the seal. What a volume holds it never needs to know.
    """
    trusted = bool(chain) and signature_cache.is_trusted(folders.archive, chain)
    if not trusted:
        signature_cache.forget(folders.archive)
    for volume in chain:
        if order.bring is None:
            _check_there(order.spool, volume)
        shown = folders.volumes / volume.name
        if trusted or _is_content(volume.name):
            shown.touch(mode=0o600)
        elif order.bring is None:
            copy_checked(order.spool / volume.name, shown, volume)
        else:
            order.bring(volume, shown)
    return bool(chain) and not trusted


def _volume_size(order: EncodeOrder) -> int:
    """As asked for, or less where the disk is small: duplicity refuses to begin without room for more than two."""
    status = os.statvfs(order.spool)
    return max(1, min(order.volume_megabytes, status.f_bavail * status.f_frsize // (4 << 20)))


def _check_there(spool: Path, volume: Volume) -> None:
    """An increment of a chain with a hole could never be restored. Raises TargetDamaged."""
    try:
        size = os.lstat(spool / volume.name).st_size
    except FileNotFoundError:
        size = -1
    if size != volume.size:
        reason = (
            f"{volume.name} is missing or cut short, so nothing can be added to it; `tklb backup --full` begins anew"
        )
        raise TargetDamaged(address=spool, reason=reason)


def _take_in(made: Path, order: EncodeOrder, chain: Sequence[Volume]) -> tuple[Volume, ...]:
    """Move a finished set into the spool, durably, its manifest last."""
    old = {volume.name for volume in chain}
    names = sorted((name for name in os.listdir(made) if name not in old), key=lambda name: (_LAST in name, name))
    _check_set(names, order)
    with ThreadPoolExecutor(max_workers=2) as threads:
        volumes = tuple(threads.map(lambda name: _settled(made / name), names))
    for name in names:
        os.rename(made / name, order.spool / name)
    sync_folder(order.spool)
    return volumes


def _check_set(names: Sequence[str], order: EncodeOrder) -> None:
    """Raise ProgramFailed where this is not exactly one whole set of the right label."""
    found = [VOLUME_NAME.fullmatch(name) for name in names]
    parts = sorted(match["part"] for match in found if match and match["prefix"] == order.prefix)
    numbered = [f"vol{number}.difftar" for number in range(1, len(names) - 1)]
    labelled = all(f"{snapshot_id(order.time)}." in name for name in names)
    if not labelled or parts != sorted(["manifest", "sigtar", *numbered]):
        raise ProgramFailed(program="duplicity", reason=f"it left no whole set, but {', '.join(names) or 'nothing'}")


def _settled(path: Path) -> Volume:
    """Make a finished volume durable and name it."""
    with open(path, "rb", buffering=0) as stream:
        os.fsync(stream.fileno())
        return Volume(path.name, os.fstat(stream.fileno()).st_size, file_sha256(stream))


def _pushed(volumes: tuple[Volume, ...], lines: Iterable[Line]) -> EncodedSet:
    as_read: dict[bytes, str] = {}
    changed, skipped = [], []
    for line in lines:
        if line.kind == b"failed":
            skipped.append(Skipped(line.path, line.text))
        elif line.kind in (b"stored", b"changed"):
            as_read[line.path] = line.text
            if line.kind == b"changed":
                changed.append(line.path)
    return EncodedSet(volumes, as_read, tuple(changed), tuple(skipped))


def _key(prefix: str) -> str:
    return prefix.rstrip("-") or "a"


def _prefix(name: str) -> str | None:
    match = VOLUME_NAME.fullmatch(name)
    return match["prefix"] if match else None


def _is_content(name: str) -> bool:
    return name.endswith(".difftar.gpg")


def _is_signature(name: str) -> bool:
    return name.endswith(".sigtar.gpg")
