"""The sealed objects themselves: find out which are missing or not what they were, and fetch them, each checked.

Takes what a record names and a target; nothing is given on that differs from the seal in a single bit. Touches the
private folder it fetches into.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

from tklb.errors import TargetDamaged, TargetUnreachable
from tklb.model import Volume
from tklb.store.parallel import Stop, side_by_side
from tklb.store.target import VOLUMES, Moved, Target

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """`kind` is one of missing, truncated, damaged, unexpected."""

    volume: str
    kind: str


def check_objects(
    target: Target,
    volumes: Iterable[Volume],
    folder: Path | None = None,
    moved: Callable[[int], None] = lambda _: None,
    abreast: int = 1,
) -> tuple[Problem, ...]:
    """What is wrong with sealed objects: by presence and size, or by content too where a private `folder` is given.

    `moved` is told the bytes read so far, `abreast` are read at a time. What reads badly is read a second time: a bit
    that was flipped on the way is no damage. Objects that no seal names are another matter: unexpected().
    """
    wanted, sizes = tuple(volumes), sizes_of(target)
    kinds = {volume.name: _kind_by_size(target, volume, sizes.get(volume.name)) for volume in wanted}
    if folder:
        there = [volume for volume in wanted if not kinds[volume.name]]
        kinds.update(_kinds_by_content(target, there, folder, moved, abreast))
    return tuple(Problem(volume.name, kind) for volume in wanted if (kind := kinds[volume.name]))


def unexpected(target: Target, sealed: Iterable[str]) -> tuple[Problem, ...]:
    """What lies among the volumes and no seal names. A restore never looks at it."""
    known = frozenset(sealed)
    return tuple(Problem(name, "unexpected") for name in sizes_of(target) if name not in known)


def sizes_of(target: Target) -> dict[str, int]:
    """The size of every object among the volumes, by its name there, sorted by name."""
    return {name.removeprefix(VOLUMES): size for name, size in target.list(VOLUMES)}


def fetch_volumes(
    target: Target, volumes: Iterable[Volume], folder: Path, check: Callable[[], object] = lambda: None
) -> None:
    """Bring volumes into an empty private folder, each compared with its seal.

    `check` is called now and then, and may raise an end. Raises TargetDamaged at the first that is missing or differs,
    TargetUnreachable, NoSpace.
    """
    for volume in volumes:
        fetched = folder / volume.name
        if not _linked(target, volume, fetched):
            target.get(VOLUMES + volume.name, fetched, _bounded(volume, target.address, check))
        _check(fetched, volume, target.address)


def copy_checked(source: Path, destination: Path, volume: Volume) -> None:
    """Copy an object of a local spool, and compare the copy with its seal. Raises TargetDamaged."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        raise TargetDamaged(address=source.parent, reason=f"{volume.name} is missing") from exc
    with open(descriptor, "rb", buffering=0) as origin, open(destination, "xb") as copy:
        while block := origin.read(_BLOCK):
            copy.write(block)
    _check(destination, volume, str(source.parent))


def file_sha256(stream: IO[bytes]) -> str:
    """The digest of an unbuffered stream from where it stands, in lowercase hex."""
    return hashlib.file_digest(stream, hashlib.sha256).hexdigest()  # type: ignore[arg-type]


def _bounded(volume: Volume, address: str, check: Callable[[], object]) -> Moved:
    """Told the bytes that come, it ends what is longer than its seal says: that could fill the disk."""
    come = 0

    def moved(count: int) -> None:
        nonlocal come
        check()
        come += count
        if come > volume.size:
            raise TargetDamaged(address=address, reason=f"{volume.name} has more than its {volume.size} bytes")

    return moved


def _check(path: Path, volume: Volume, address: str) -> None:
    with open(path, "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != volume.size:
            raise TargetDamaged(address=address, reason=f"{volume.name} has {size} bytes of {volume.size}")
        if file_sha256(stream) != volume.sha256:
            raise TargetDamaged(address=address, reason=f"{volume.name} is not what was sealed")


def _kind_by_size(target: Target, volume: Volume, listed: int | None) -> str:
    """What is wrong with an object by its size alone, "" if nothing. A listing may be behind the times: ask again."""
    size = listed
    if listed != volume.size:
        found = target.stat(VOLUMES + volume.name)
        size = found.size if found else None
    if size is None:
        return "missing"
    if size < volume.size:
        return "truncated"
    return "damaged" if size > volume.size else ""


def _kinds_by_content(
    target: Target, volumes: Sequence[Volume], folder: Path, moved: Callable[[int], None], abreast: int
) -> dict[str, str]:
    kinds: dict[str, str] = {}
    done, lock = 0, Lock()

    def look(volume: Volume, stop: Stop) -> None:
        nonlocal done
        stop.check()
        kind = "" if _is_whole(target, volume, folder) else _kind_by_size(target, volume, None) or "damaged"
        with lock:
            kinds[volume.name] = kind
            done += volume.size
            moved(done)

    side_by_side(look, volumes, abreast)
    return kinds


def _is_whole(target: Target, volume: Volume, folder: Path) -> bool:
    """Whether one of two looks finds it whole. Where the target answers but for this object, the object is damaged."""
    if target.spool is not None:
        return any(_is_whole_here(target.spool / volume.name, volume) for _ in range(2))
    for is_last in (False, True):
        try:
            fetch_volumes(target, (volume,), folder)
            return True
        except TargetDamaged:
            continue
        except TargetUnreachable:
            if is_last:
                target.stat(VOLUMES + volume.name)
        finally:
            (folder / volume.name).unlink(missing_ok=True)
    return False


def _is_whole_here(path: Path, volume: Volume) -> bool:
    """The same of a file, where it lies. One that cannot be read to its end is not whole."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as stream:
            return os.fstat(stream.fileno()).st_size == volume.size and file_sha256(stream) == volume.sha256
    except OSError as exc:
        if exc.errno in (errno.EACCES, errno.EPERM):
            raise
        return False


def _linked(target: Target, volume: Volume, fetched: Path) -> bool:
    """Link instead of copying where nobody but root can change the object between the check and the use."""
    if target.spool is None:
        return False
    source = target.spool / volume.name
    try:
        status = os.lstat(source)
        safe = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
        if safe:
            os.link(source, fetched, follow_symlinks=False)
        return safe
    except OSError:
        return False
