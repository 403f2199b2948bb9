"""Check the volumes of a backend: which are missing, cut short, damaged, or unknown to the ledger.

Takes the volumes that ledger entries name, and a backend. Touches the private folder that it downloads into.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock

from tklb.base.concurrency import Stop, run_side_by_side
from tklb.base.fs import file_sha256, open_plain
from tklb.errors import TargetDamaged, TargetUnreachable
from tklb.lazy_dataclass import dataclass
from tklb.model.snapshot import Volume
from tklb.storage.backend import VOLUMES, Backend
from tklb.storage.transfer import download_volume


@dataclass(frozen=True, slots=True)
class ObjectProblem:
    """`kind` is one of missing, truncated, damaged, unexpected."""

    volume: str
    kind: str


def check_objects(
    backend: Backend,
    volumes: Iterable[Volume],
    folder: Path | None = None,
    moved: Callable[[int], None] = lambda _: None,
    abreast: int = 1,
) -> tuple[ObjectProblem, ...]:
    """Check sealed volumes by presence and size, and by content too where a private `folder` is given.

    It reads `abreast` volumes at a time; `moved` gets the bytes read so far. A volume that reads badly is read a second
    time, since a bit that flips on the way is no damage. For objects that no entry names, see find_unexpected().
    """
    wanted, sizes = tuple(volumes), list_sizes(backend)
    kinds = {volume.name: _kind_by_size(backend, volume, sizes.get(volume.name)) for volume in wanted}
    if folder:
        there = [volume for volume in wanted if not kinds[volume.name]]
        kinds.update(_kinds_by_content(backend, there, folder, moved, abreast))
    return tuple(ObjectProblem(volume.name, kind) for volume in wanted if (kind := kinds[volume.name]))


def find_unexpected(backend: Backend, sealed: Iterable[str]) -> tuple[ObjectProblem, ...]:
    """The objects among the volumes that no ledger entry names. A restore never reads them."""
    known = frozenset(sealed)
    return tuple(ObjectProblem(name, "unexpected") for name in list_sizes(backend) if name not in known)


def list_sizes(backend: Backend) -> dict[str, int]:
    """The size of every object among the volumes, by its name there, sorted by name."""
    return {name.removeprefix(VOLUMES): size for name, size in backend.list(VOLUMES)}


def _kind_by_size(backend: Backend, volume: Volume, listed: int | None) -> str:
    """The problem that the size of a volume shows, "" for none. A listing may lag behind, so it asks again."""
    size = listed
    if listed != volume.size:
        found = backend.stat(VOLUMES + volume.name)
        size = found.size if found else None
    if size is None:
        return "missing"
    if size < volume.size:
        return "truncated"
    return "damaged" if size > volume.size else ""


def _kinds_by_content(
    backend: Backend, volumes: Sequence[Volume], folder: Path, moved: Callable[[int], None], abreast: int
) -> dict[str, str]:
    kinds: dict[str, str] = {}
    done, lock = 0, Lock()

    def check(volume: Volume, stop: Stop) -> None:
        nonlocal done
        stop.check()
        kind = "" if _is_whole(backend, volume, folder) else _kind_by_size(backend, volume, None) or "damaged"
        with lock:
            kinds[volume.name] = kind
            done += volume.size
            moved(done)

    run_side_by_side(check, volumes, abreast)
    return kinds


def _is_whole(backend: Backend, volume: Volume, folder: Path) -> bool:
    """Whether one of two reads finds it whole. Where the target answers, but not for this object, it is damaged."""
    if backend.spool is not None:
        path = backend.spool / volume.name
        return _is_whole_file(path, volume) or _is_whole_file(path, volume)
    with contextlib.suppress(TargetUnreachable):
        if _is_download_whole(backend, volume, folder):
            return True
    try:
        return _is_download_whole(backend, volume, folder)
    except TargetUnreachable:
        backend.stat(VOLUMES + volume.name)  # raises where the target does not answer at all
        return False


def _is_download_whole(backend: Backend, volume: Volume, folder: Path) -> bool:
    try:
        download_volume(backend, volume, folder)
        return True
    except TargetDamaged:
        return False
    finally:
        (folder / volume.name).unlink(missing_ok=True)


def _is_whole_file(path: Path, volume: Volume) -> bool:
    """Whether a file of this machine is the whole volume. One that cannot be read to its end is not."""
    try:
        with open_plain(path) as stream:
            return os.fstat(stream.fileno()).st_size == volume.size and file_sha256(stream) == volume.sha256
    except OSError as exc:
        if exc.errno in (errno.EACCES, errno.EPERM):
            raise
        return False
