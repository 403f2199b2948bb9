"""Volumes from the spool to a distant target: several at a time, each confirmed, none twice.

Takes volumes that lie whole in a local folder. The target confirms the SHA-256 of each, or tklb reads the volume back.
Touches the target, and a folder in the spool for volumes that are read back.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from tklb.base.concurrency import Stop, run_side_by_side
from tklb.base.fs import fresh_folder
from tklb.base.measure import Stopwatch, format_transfer
from tklb.errors import AccessRefused, TargetDamaged, TargetUnfit, TargetUnreachable, TklbError
from tklb.model.snapshot import Volume
from tklb.model.volume_names import INCOMING, VOLUME_NAME
from tklb.storage.backend import VOLUMES, Backend, Creation, StoredObject
from tklb.storage.check import list_sizes
from tklb.storage.transfer import ByteTotal, download_volume

log = logging.getLogger(__name__)

_TRIES = 3  # for an object that does not come back as it was uploaded


def upload_volumes(
    backend: Backend,
    spool: Path,
    volumes: Iterable[Volume],
    count: int,
    confirmed: Callable[[Volume], object] = lambda _: None,
    moved: Callable[[int], object] = lambda _: None,
) -> None:
    """Upload volumes from `spool`, `count` at a time.

    `confirmed` gets each volume that the target holds for sure; calls to it never overlap. `moved` gets the bytes
    uploaded so far. Raises TargetUnreachable where the target does not keep what was uploaded, and what the backend
    raises.
    """
    total = ByteTotal(moved)
    lock = threading.Lock()

    def upload(volume: Volume, stop: Stop) -> None:
        def step(amount: int) -> None:
            stop.check()
            total.add(amount)

        watch = Stopwatch()
        _upload_volume(backend, spool, volume, step)
        log.info("uploaded volume %s to %s, %s", volume.name, backend.address, format_transfer(volume.size, watch))
        with lock:
            confirmed(volume)

    # the largest first: none of them is left alone at the end
    run_side_by_side(upload, sorted(volumes, key=lambda volume: -volume.size), count)


def upload_object(backend: Backend, name: str, source: Path) -> StoredObject:
    """Upload a small object and confirm it. Raises TargetDamaged where it does not come back as it was uploaded."""
    content = source.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    stored = backend.upload(name, source, digest)
    if stored.sha256 != digest and backend.read(name, len(content) + 1) != content:
        raise TargetDamaged(address=backend.address, reason=f"{name} did not come back as it was written")
    return stored


def create_object(backend: Backend, name: str, source: Path) -> Creation:
    """Upload a small object under a name that no object has, and read it back.

    EXISTS means that another content has the name. Where an earlier call made the same object and its answer was lost,
    the result is UNSURE: the caller has to look for other writers, as after each UNSURE. Raises TargetDamaged where the
    object does not come back as it was written.
    """
    content = source.read_bytes()
    result = backend.upload_new(name, source, hashlib.sha256(content).hexdigest())
    is_ours = content in (_read_start(backend, name, len(content)) for _ in range(2))  # a bit may flip on the way
    if result is Creation.MADE and not is_ours:
        raise TargetDamaged(address=backend.address, reason=f"{name} did not come back as it was written")
    if result is Creation.EXISTS:
        return Creation.UNSURE if is_ours else Creation.EXISTS
    return result if is_ours else Creation.EXISTS


def _read_start(backend: Backend, name: str, size: int) -> bytes:
    """The content of an object, b"" where it is missing or longer than `size` bytes."""
    try:
        return backend.read(name, size)
    except TargetDamaged:  # longer, or gone
        return b""


def check_present(backend: Backend, volumes: Collection[Volume], so: str = "") -> None:
    """Raise TargetDamaged where a volume is missing or has another size. Takes one listing.

    `so` is for people: what follows from that.
    """
    sizes = list_sizes(backend)
    for volume in volumes:
        size = sizes.get(volume.name)
        if size != volume.size:  # a listing may lag behind
            known = backend.stat(VOLUMES + volume.name)
            size = known.size if known else None
        if size != volume.size:
            reason = "is missing" if size is None else f"has {size} bytes of {volume.size}"
            raise TargetDamaged(address=backend.address, reason=f"{volume.name} {reason}{', ' * bool(so)}{so}")


class Leftovers(NamedTuple):
    """Volumes that a killed run left at a target: those that are deleted now, and those that may not be."""

    gone: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    refusal: str = ""  # why the target deletes nothing; "" where nobody tried


def remove_leftovers(backend: Backend, sealed: Collection[str], *, is_write_once: bool = False) -> Leftovers:
    """Delete from a distant target what a killed run left there and no run resumes.

    `sealed` are the names of all volumes to keep. Objects that are no volumes stay. What may not be deleted stays too:
    nothing reads it. With `is_write_once` nothing is tried.
    """
    keep = frozenset(sealed)
    refusal = "" if is_write_once else _tidy(backend)
    left = tuple(name for name in list_sizes(backend) if name not in keep and VOLUME_NAME.fullmatch(name))
    gone: list[str] = []
    try:
        for name in left if not is_write_once else ():
            backend.delete(VOLUMES + name)
            gone.append(name)
    except (AccessRefused, TargetUnfit) as exc:
        refusal = str(exc.facts.get("reason", ""))
    return Leftovers(tuple(gone), left[len(gone) :], refusal)


def _tidy(backend: Backend) -> str:
    """Tidy a target; give why it refuses that, or ""."""
    try:
        backend.tidy()
    except (AccessRefused, TargetUnfit) as exc:
        log.info("cannot look for what interrupted uploads left: %s", exc)
        return str(exc.facts.get("reason", ""))
    return ""


def _upload_volume(backend: Backend, spool: Path, volume: Volume, moved: Callable[[int], object]) -> None:
    failure: TklbError | None = None
    for _ in range(_TRIES):
        stored = _upload_or_keep(backend, spool, volume, moved)
        if stored.size == volume.size and stored.sha256 == volume.sha256:
            return
        try:
            _read_back(backend, spool, volume)
        except TargetDamaged as exc:
            failure = exc
        else:
            return
    raise TargetUnreachable(address=backend.address, reason=f"it does not keep what is sent: {failure}") from failure


def _upload_or_keep(backend: Backend, spool: Path, volume: Volume, moved: Callable[[int], object]) -> StoredObject:
    """Upload a volume. A target that replaces nothing may have it already, from a run that was killed."""
    name = VOLUMES + volume.name
    try:
        return backend.upload(name, spool / volume.name, volume.sha256, moved)
    except (AccessRefused, TargetUnfit):
        known = backend.stat(name)
        if known is None or known.size != volume.size:
            raise
        return StoredObject(known.size)


def _read_back(backend: Backend, spool: Path, volume: Volume) -> None:
    with fresh_folder(spool / f"{INCOMING}{volume.name}") as folder:
        download_volume(backend, volume, folder)
