"""One volume into a private folder: downloaded, linked or copied, and compared with the ledger."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from tklb.base.fs import file_sha256, is_plain
from tklb.errors import TargetDamaged
from tklb.model.snapshot import Volume
from tklb.storage.backend import VOLUMES, Backend, Moved

_BLOCK = 1 << 20


def download_volume(backend: Backend, volume: Volume, folder: Path, check: Callable[[], object] = lambda: None) -> None:
    """Put a volume into a private folder that has no file of its name, and compare it with its ledger entry.

    `check` is called now and then, and may raise to end the download. Raises TargetDamaged where the volume is missing
    or differs, TargetUnreachable, NoSpace.
    """
    path = folder / volume.name
    if not _link(backend, volume, path):
        backend.download(VOLUMES + volume.name, path, _limit_to(volume, backend.address, check))
    _compare(path, volume, backend.address)


def copy_volume(source: Path, destination: Path, volume: Volume) -> None:
    """Copy a volume of a local folder, and compare the copy with its ledger entry. Raises TargetDamaged."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        raise TargetDamaged(address=source.parent, reason=f"{volume.name} is missing") from exc
    with open(descriptor, "rb", buffering=0) as origin, open(destination, "xb") as copy:
        while block := origin.read(_BLOCK):
            copy.write(block)
    _compare(destination, volume, str(source.parent))


def _limit_to(volume: Volume, address: str, check: Callable[[], object]) -> Moved:
    """A callback that ends a download of more bytes than the ledger names: that could fill the disk."""
    total = 0

    def count(amount: int) -> None:
        nonlocal total
        check()
        total += amount
        if total > volume.size:
            raise TargetDamaged(address=address, reason=f"{volume.name} has more than its {volume.size} bytes")

    return count


def _compare(path: Path, volume: Volume, address: str) -> None:
    with open(path, "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != volume.size:
            raise TargetDamaged(address=address, reason=f"{volume.name} has {size} bytes of {volume.size}")
        if file_sha256(stream) != volume.sha256:
            raise TargetDamaged(address=address, reason=f"{volume.name} is not what was sealed")


def _link(backend: Backend, volume: Volume, path: Path) -> bool:
    """Link instead of copying, where only root can change the object between the check and the use."""
    if backend.spool is None:
        return False
    source = backend.spool / volume.name
    try:
        status = os.lstat(source)
        is_safe = is_plain(status) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
        if is_safe:
            os.link(source, path, follow_symlinks=False)
        return is_safe
    except OSError:
        return False


class ByteTotal:
    """The sum of the bytes that several threads move; `show` gets it after every change."""

    def __init__(self, show: Callable[[int], object]) -> None:
        self._show, self._sum, self._lock = show, 0, threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._sum += count
            self._show(self._sum)
