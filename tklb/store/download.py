"""From a target into a private folder: sealed volumes, several at a time, each compared with its seal.

Takes what a record names; nothing is given on that differs from the seal in a single bit. What arrives broken is asked
for once more: a byte that flipped on the way is no damage.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from tklb.errors import TargetDamaged
from tklb.model import Volume
from tklb.store.objects import fetch_volumes
from tklb.store.parallel import Stop, side_by_side
from tklb.store.target import Target
from tklb.store.upload import Total


def download(
    target: Target,
    volumes: Iterable[Volume],
    folder: Path,
    count: int,
    moved: Callable[[int], object] = lambda _: None,
) -> None:
    """Bring volumes into an empty private folder, `count` at a time; `moved` is told the bytes of those that are there.

    Raises TargetDamaged at the first that is missing or differs, and what the target raises.
    """
    total = Total(moved)

    def fetch(volume: Volume, stop: Stop) -> None:
        stop.check()
        try:
            fetch_volumes(target, (volume,), folder)
        except TargetDamaged:
            stop.check()
            (folder / volume.name).unlink(missing_ok=True)
            fetch_volumes(target, (volume,), folder)
        total.add(volume.size)

    side_by_side(fetch, sorted(volumes, key=lambda volume: -volume.size), count)
