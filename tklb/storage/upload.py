"""From the spool to a distant target: each volume confirmed, several at a time, none twice.

Takes volumes that lie whole in a local folder; afterwards the target holds them, by its own word on their digest, or
because they were read back. Touches the target, and the folder's neighbour for what is read back.
"""

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from tklb.base.concurrency import Stop, run_side_by_side
from tklb.base.fs import fresh_folder
from tklb.errors import TargetDamaged, TargetUnreachable, TklbError
from tklb.model.snapshot import Volume
from tklb.model.volume_names import INCOMING, VOLUME_NAME
from tklb.storage.backend import VOLUMES, Backend, StoredObject
from tklb.storage.check import sizes_of
from tklb.storage.transfer import Total, fetch_volumes

_TRIES = 3  # for an object that does not come back as it was sent


def upload(
    target: Backend,
    spool: Path,
    volumes: Iterable[Volume],
    count: int,
    confirmed: Callable[[Volume], object] = lambda _: None,
    moved: Callable[[int], object] = lambda _: None,
) -> None:
    """Store volumes from `spool`, `count` at a time; `confirmed` is told each that is there for sure.

    `moved` is told the bytes sent so far. Raises TargetDamaged where one does not come back as it was sent, and what
    the target raises.
    """
    total = Total(moved)
    lock = threading.Lock()

    def store(volume: Volume, stop: Stop) -> None:
        def step(amount: int) -> None:
            stop.check()
            total.add(amount)

        _store(target, spool, volume, step)
        with lock:
            confirmed(volume)

    # the largest first: none of them is left alone at the end
    run_side_by_side(store, sorted(volumes, key=lambda volume: -volume.size), count)


def put_checked(target: Backend, name: str, source: Path) -> StoredObject:
    """Store a small object and make sure of it. Raises TargetDamaged where it does not come back as it was sent."""
    content = source.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    stored = target.put(name, source, digest)
    if stored.sha256 != digest and target.read(name, len(content) + 1) != content:
        raise TargetDamaged(address=target.address, reason=f"{name} did not come back as it was written")
    return stored


def check_there(target: Backend, volumes: Collection[Volume], so: str = "") -> None:
    """Raise TargetDamaged where the target has not got one of these volumes, or not all of it: one listing.

    `so` is what follows from that, for people.
    """
    sizes = sizes_of(target)
    for volume in volumes:
        size = sizes.get(volume.name)
        if size != volume.size:  # a listing may lag behind
            known = target.stat(VOLUMES + volume.name)
            size = known.size if known else None
        if size != volume.size:
            reason = "is missing" if size is None else f"has {size} bytes of {volume.size}"
            raise TargetDamaged(address=target.address, reason=f"{volume.name} {reason}{', ' * bool(so)}{so}")


def clean_target(target: Backend, sealed: Collection[str]) -> tuple[str, ...]:
    """Take away what a killed run left on a distant target: never resumed, never offered. Gives the names that went.

    `sealed` are the names of all volumes that count; objects that are no volumes are left alone.
    """
    target.tidy()
    keep = frozenset(sealed)
    gone = tuple(name for name in sizes_of(target) if name not in keep and VOLUME_NAME.fullmatch(name))
    for name in gone:
        target.delete(VOLUMES + name)
    return gone


def _store(target: Backend, spool: Path, volume: Volume, moved: Callable[[int], object]) -> None:
    failure: TklbError | None = None
    for _ in range(_TRIES):
        stored = target.put(VOLUMES + volume.name, spool / volume.name, volume.sha256, moved)
        if stored.size == volume.size and stored.sha256 == volume.sha256:
            return
        try:
            _read_back(target, spool, volume)
        except TargetDamaged as exc:
            failure = exc
        else:
            return
    raise TargetUnreachable(address=target.address, reason=f"it does not keep what is sent: {failure}") from failure


def _read_back(target: Backend, spool: Path, volume: Volume) -> None:
    with fresh_folder(spool / f"{INCOMING}{volume.name}") as folder:
        fetch_volumes(target, (volume,), folder)
