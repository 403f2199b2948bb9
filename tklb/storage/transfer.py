"""Bring sealed volumes from a target into a private folder, each compared with the ledger."""

import os
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from tklb.base.fs import file_sha256
from tklb.errors import TargetDamaged
from tklb.model.snapshot import Volume
from tklb.storage.backend import VOLUMES, Backend, Moved

_BLOCK = 1 << 20


def fetch_volumes(
    target: Backend, volumes: Iterable[Volume], folder: Path, check: Callable[[], object] = lambda: None
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


def _linked(target: Backend, volume: Volume, fetched: Path) -> bool:
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


class Total:
    """What several threads moved, told as one sum."""

    def __init__(self, told: Callable[[int], object]) -> None:
        self._told, self._sum, self._lock = told, 0, threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._sum += count
            self._told(self._sum)
