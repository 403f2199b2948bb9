"""The sealed objects themselves: find out which are missing or not what they were, and fetch them, each checked.

Takes what a record names and a target; nothing is given on that differs from the seal in a single bit. Touches the
private folder it fetches into.
"""

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from tklb.base.concurrency import Stop, run_side_by_side
from tklb.base.fs import file_sha256
from tklb.errors import TargetDamaged, TargetUnreachable
from tklb.model.snapshot import Volume
from tklb.storage.backend import VOLUMES, Backend
from tklb.storage.transfer import fetch_volumes


@dataclass(frozen=True, slots=True)
class ObjectProblem:
    """`kind` is one of missing, truncated, damaged, unexpected."""

    volume: str
    kind: str


def check_objects(
    target: Backend,
    volumes: Iterable[Volume],
    folder: Path | None = None,
    moved: Callable[[int], None] = lambda _: None,
    abreast: int = 1,
) -> tuple[ObjectProblem, ...]:
    """What is wrong with sealed objects: by presence and size, or by content too where a private `folder` is given.

    `moved` is told the bytes read so far, `abreast` are read at a time. What reads badly is read a second time: a bit
    that was flipped on the way is no damage. Objects that no seal names are another matter: unexpected().
    """
    wanted, sizes = tuple(volumes), sizes_of(target)
    kinds = {volume.name: _kind_by_size(target, volume, sizes.get(volume.name)) for volume in wanted}
    if folder:
        there = [volume for volume in wanted if not kinds[volume.name]]
        kinds.update(_kinds_by_content(target, there, folder, moved, abreast))
    return tuple(ObjectProblem(volume.name, kind) for volume in wanted if (kind := kinds[volume.name]))


def find_unexpected(target: Backend, sealed: Iterable[str]) -> tuple[ObjectProblem, ...]:
    """What lies among the volumes and no seal names. A restore never looks at it."""
    known = frozenset(sealed)
    return tuple(ObjectProblem(name, "unexpected") for name in sizes_of(target) if name not in known)


def sizes_of(target: Backend) -> dict[str, int]:
    """The size of every object among the volumes, by its name there, sorted by name."""
    return {name.removeprefix(VOLUMES): size for name, size in target.list(VOLUMES)}


def _kind_by_size(target: Backend, volume: Volume, listed: int | None) -> str:
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
    target: Backend, volumes: Sequence[Volume], folder: Path, moved: Callable[[int], None], abreast: int
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

    run_side_by_side(look, volumes, abreast)
    return kinds


def _is_whole(target: Backend, volume: Volume, folder: Path) -> bool:
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
