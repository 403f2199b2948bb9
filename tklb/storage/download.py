"""From a target into a private folder: sealed volumes, several at a time, each compared with its seal.

Takes what a record names; nothing is given on that differs from the seal in a single bit. What arrives broken is asked
for once more: a byte that flipped on the way is no damage.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tklb.base.concurrency import Stop, run_side_by_side
from tklb.base.fs import fresh_folder
from tklb.errors import TargetDamaged
from tklb.model.snapshot import Volume
from tklb.model.volume_names import decoding_order
from tklb.storage.backend import Backend
from tklb.storage.transfer import Total, fetch_volumes

_A_MOMENT = 0.2  # seconds between two looks for Ctrl-C
_GRACE = 5.0  # seconds that a download gets to end by itself


def download(
    target: Backend,
    volumes: Iterable[Volume],
    folder: Path,
    count: int,
    moved: Callable[[int], object] = lambda _: None,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Bring volumes into an empty private folder, `count` at a time; `moved` is told the bytes of those that are there.

    They come in the order in which they are decoded, and appear when they are checked, by a rename. `check` is called
    now and then, and may raise an end. Raises TargetDamaged at the first that is missing or differs, and what the
    target raises.
    """
    total = Total(moved)

    def fetch(volume: Volume, stop: Stop) -> None:
        def go_on() -> None:
            stop.check()
            check()

        try:
            fetch_volumes(target, (volume,), arriving, go_on)
        except TargetDamaged:
            (arriving / volume.name).unlink(missing_ok=True)
            fetch_volumes(target, (volume,), arriving, go_on)
        go_on()
        (arriving / volume.name).rename(folder / volume.name)
        total.add(volume.size)

    with fresh_folder(folder.with_name(f"{folder.name}-arriving")) as arriving:
        run_side_by_side(fetch, sorted(volumes, key=lambda volume: decoding_order(volume.name)), count)


@contextlib.contextmanager
def download_in_background(
    target: Backend, volumes: Iterable[Volume], folder: Path, count: int, moved: Callable[[int], object]
) -> Iterator[Callable[[], None]]:
    """Do as download() does while the block runs, and after it until all is there.

    What is given is to be called now and then: it raises the failure of the download where there is one.
    """
    failures: list[BaseException] = []
    stop = Stop()

    def run() -> None:
        try:
            download(target, volumes, folder, count, moved, stop.check)
        except BaseException as exc:  # noqa: BLE001 - raised where the block is
            failures.append(exc)

    def check() -> None:
        if failures:
            raise failures[0]

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield check
        while thread.is_alive():
            thread.join(_A_MOMENT)
        check()
    finally:
        stop.set()
        thread.join(_GRACE)
