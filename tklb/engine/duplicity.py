"""The engine: duplicity encodes files into volumes and decodes them. Only the ledger says which volumes are valid.

Encoding takes names below a source folder; it gives new volumes with size and SHA-256, and what was read. Decoding
takes checked volumes and gives their files. Touches the spool, the cache (which may be deleted at any time), and the
folder that it decodes into. Each run is a process of its own (runner.py, worker.py). It works in a folder beside the
volumes and never sees them: a set is complete and durable before it moves among the others.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from tklb.base.concurrency import Stop, map_side_by_side
from tklb.base.fs import file_sha256, free_space, fresh_folder, private_folder, remove_tree, sync_folder
from tklb.base.python import write_gpg_launcher
from tklb.engine import duplicity_cli, signature_cache
from tklb.engine.duplicity_cli import Folders
from tklb.engine.runner import Moved, ReportLine, WorkerJob, run_duplicity
from tklb.errors import ProgramFailed, TargetDamaged
from tklb.lazy_dataclass import dataclass
from tklb.model.report import Skipped
from tklb.model.secret import Secret
from tklb.model.snapshot import Shard, Volume, snapshot_id
from tklb.model.volume_names import INCOMING, VOLUME_NAME
from tklb.storage.transfer import copy_volume

T = TypeVar("T")
_BYTES_A_SHARD = 64 << 20
_LAST = "manifest.gpg"  # a set without it does not count, so it comes last
_GRACE = 30.0  # seconds that duplicity processes get to end


@dataclass(frozen=True, slots=True)
class EncodeOrder:
    """One set to be made.

    `names` is a file of NUL-separated paths below `source`, without leading slashes: all files of the snapshot. A path
    may say which object it must be (picked_files.format_name); another one under that name is skipped. A file of the
    chain that is not on this list is deleted in the new set. `forced` lists paths of files to read even if size and
    second of change are as before. `base` are the volumes of the snapshot before; without any, a new
    chain begins. `time` is the label of the set, and the id of the snapshot. `download` puts one volume of `base`,
    checked, at a path; None where all of them are in the spool.
    """

    spool: Path
    names: Path
    time: datetime
    base: tuple[Volume, ...] = ()
    source: bytes = b"/"
    forced: Path | None = None
    prefix: str = ""
    volume_megabytes: int = 100
    download: Callable[[Volume, Path], None] | None = None


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """The volumes of a new set, and what the engine read for it. Paths are absolute.

    `as_read` has every regular file whose content this set stores, and its SHA-256. `changed` are those that changed
    while the engine read them. `skipped` could not be stored: the set then has nothing, the older content, or a part.
    """

    volumes: tuple[Volume, ...]
    as_read: Mapping[bytes, str]
    changed: tuple[bytes, ...] = ()
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedVolumes:
    """Volumes to decode: those that select_restore_volumes() gives, checked, in a private folder.

    Some of `names` may not be there yet. Each appears whole, by a rename, and the engine waits for it.
    """

    folder: Path
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Engine:
    """duplicity with a secret and a cache. Holds no state but these, so several threads may use it at once.

    No other program may use `cache`; two runs for the same shard prefix must not overlap, as they share a folder there.
    A run in which nothing moves for `patience` seconds is ended with ProgramFailed.
    """

    cache: Path
    secret: Secret
    patience: float = 900.0

    def encode(self, order: EncodeOrder, moved: Moved = lambda _count: None) -> EncodedSet:
        """Make one set and give its volumes, which are then durable in the spool.

        The volumes count only when a ledger entry names them. A run that fails or is killed leaves nothing among the
        volumes, and the next run starts anew: the engine never resumes. `moved` gets the bytes read so far, about twice
        a second, and may raise to end the run. Raises ProgramFailed, TargetFull (the spool), NoSpace (the cache), and
        TargetDamaged where a volume of the base is missing or is not what was sealed.
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
            job = WorkerJob(
                duplicity_cli.ENCODE,
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
        return _encoded_set(volumes, lines)

    def decode(self, volumes: CheckedVolumes, stage: Path, shard: Shard, moved: Moved = lambda _count: None) -> None:
        """Decode one shard into `stage`, which must be an empty folder inside a private one.

        `stage` gets the mode of the source folder, and files get the numeric owners of the backed-up machine. The
        caller must have checked every volume against the ledger: duplicity believes what it reads. `moved` gets the
        bytes written so far, and may raise to end the run. Raises ProgramFailed on any warning or error of duplicity,
        and NoSpace.
        """
        with fresh_folder(self.cache / f"decode-{_key(shard.prefix)}") as work:
            names = work / "names"
            names.write_bytes(b"\0".join(name.encode() for name in volumes.names))
            folders = self._folders(work, shard.prefix, volumes.folder)
            arguments = duplicity_cli.restore_arguments(folders, stage, shard.prefix, shard.time)
            job = WorkerJob(duplicity_cli.DECODE, folders, stage, arguments, self.secret, self.patience, moved, names)
            run_duplicity(job)

    def _folders(self, work: Path, prefix: str, volumes: Path | None = None) -> Folders:
        private_folder(self.cache)
        return Folders(
            volumes=volumes or private_folder(work / "volumes"),
            archive=private_folder((work if volumes else self.cache) / f"archive-{_key(prefix)}"),
            temporary=private_folder(work / "temporary"),
            gpg=write_gpg_launcher(self.cache / f"gpg-{_key(prefix)}"),
        )


def encode_all(
    engine: Engine, orders: Sequence[EncodeOrder], moved: Moved = lambda _count: None
) -> tuple[EncodedSet, ...]:
    """Make several sets side by side, one for each shard. The first failure ends them all.

    `moved` gets the sum of the bytes that all of them read. Raises what Engine.encode() raises.
    """
    return _run_all([partial(engine.encode, order) for order in orders], moved)


def decode_all(
    engine: Engine, volumes: CheckedVolumes, shards: Sequence[tuple[Path, Shard]], moved: Moved = lambda _count: None
) -> None:
    """Decode several shards side by side, each into its own folder. The first failure ends them all.

    `moved` gets the sum of the bytes that all of them wrote. Raises what Engine.decode() raises.
    """
    _run_all([partial(engine.decode, volumes, folder, shard) for folder, shard in shards], moved)


def _run_all(works: Sequence[Callable[[Moved], T]], moved: Moved) -> tuple[T, ...]:
    if len(works) == 1:  # here, Ctrl-C ends it at once; a thread would look for it twice a second
        return (works[0](moved),)
    amounts = [0] * len(works)

    def work(number: int, stop: Stop) -> T:
        def show(amount: int) -> None:
            stop.check()
            amounts[number] = amount
            moved(sum(amounts))

        return works[number](show)

    return map_side_by_side(work, range(len(works)), len(works), _GRACE)


def shard_prefix(number: int) -> str:
    """The file prefix of shard `number`. The first has none, so that stock duplicity needs no option for it."""
    return f"{'abcdefgh'[number]}-" if number else ""


def count_shards(amount: int) -> int:
    """How many shards pay for themselves with `amount` bytes: at most one a core, and at least 64 MiB each."""
    return max(1, min(len(os.sched_getaffinity(0)), 8, amount // _BYTES_A_SHARD))


def clean_spool(spool: Path, sealed: Collection[str]) -> tuple[str, ...]:
    """Delete from the spool what a killed run left there and no run resumes. Gives the deleted names.

    `sealed` are the names of all volumes to keep. Files that are no volumes stay.
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
    """The volumes of a snapshot that decoding needs. Signatures are only for the next increment."""
    return tuple(volume for volume in volumes if not _is_signature(volume.name))


def _show_chain(folders: Folders, order: EncodeOrder, chain: Sequence[Volume]) -> bool:
    """Let duplicity see the chain that it continues, and give whether it must read it.

    Where the signature cache is good, names are enough: empty files. Otherwise manifests and signatures are copied,
    each checked against the ledger. duplicity never needs the content of the other volumes.
    """
    trusted = bool(chain) and signature_cache.is_trusted(folders.archive, chain)
    if not trusted:
        signature_cache.forget(folders.archive)
    for volume in chain:
        if order.download is None:
            _check_there(order.spool, volume)
        shown = folders.volumes / volume.name
        if trusted or _is_content(volume.name):
            shown.touch(mode=0o600)
        elif order.download is None:
            copy_volume(order.spool / volume.name, shown, volume)
        else:
            order.download(volume, shown)
    return bool(chain) and not trusted


def _volume_size(order: EncodeOrder) -> int:
    """The configured size, or less on a small disk: duplicity does not start without room for more than two volumes."""
    return max(1, min(order.volume_megabytes, free_space(order.spool) // (4 << 20)))


def _check_there(spool: Path, volume: Volume) -> None:
    """Raise TargetDamaged where a volume is missing: an increment of such a chain could never be restored."""
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
    volumes = map_side_by_side(lambda name, _stop: _sync_volume(made / name), names, 2)
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


def _sync_volume(path: Path) -> Volume:
    """Make a finished volume durable; give its name, size and digest."""
    with open(path, "rb", buffering=0) as stream:
        os.fsync(stream.fileno())
        return Volume(path.name, os.fstat(stream.fileno()).st_size, file_sha256(stream))


def _encoded_set(volumes: tuple[Volume, ...], lines: Sequence[ReportLine]) -> EncodedSet:
    stored = [line for line in lines if line.kind in (b"stored", b"changed")]
    return EncodedSet(
        volumes,
        as_read={line.path: line.text for line in stored},
        changed=tuple(line.path for line in stored if line.kind == b"changed"),
        skipped=tuple(Skipped(line.path, line.text) for line in lines if line.kind == b"failed"),
    )


def _key(prefix: str) -> str:
    return prefix.rstrip("-") or "a"


def _prefix(name: str) -> str | None:
    match = VOLUME_NAME.fullmatch(name)
    return match["prefix"] if match else None


def _is_content(name: str) -> bool:
    return name.endswith(".difftar.gpg")


def _is_signature(name: str) -> bool:
    return name.endswith(".sigtar.gpg")
