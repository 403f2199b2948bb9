"""Volumes from a target into a private folder: several at a time, each compared with the ledger.

Takes the volumes that a ledger entry names. A volume whose SHA-256 differs never reaches the folder. One that arrives
broken is downloaded a second time, since a bit that flips on the way is no damage.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tklb.base.concurrency import Background, Stop, run_side_by_side
from tklb.base.fs import fresh_folder
from tklb.errors import TargetDamaged
from tklb.model.snapshot import Volume
from tklb.model.volume_names import volume_sort_key
from tklb.storage.backend import Backend
from tklb.storage.transfer import ByteTotal, download_volume

_A_MOMENT = 0.2  # seconds between two looks for Ctrl-C
_GRACE = 5.0  # seconds that a download gets to end by itself


def download_volumes(
    backend: Backend,
    volumes: Iterable[Volume],
    folder: Path,
    count: int,
    moved: Callable[[int], object] = lambda _: None,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Download volumes into an empty private folder, `count` at a time.

    They start in the order in which the engine decodes them. Each appears in the folder by a rename, after its check.
    `moved` gets the bytes of all volumes that are there. `check` is called now and then, and may raise to end the
    download. Raises TargetDamaged at the first volume that is missing or differs, and what the backend raises.
    """
    total = ByteTotal(moved)

    def download(volume: Volume, stop: Stop) -> None:
        def check_both() -> None:
            stop.check()
            check()

        try:
            download_volume(backend, volume, arriving, check_both)
        except TargetDamaged:
            (arriving / volume.name).unlink(missing_ok=True)
            download_volume(backend, volume, arriving, check_both)
        check_both()
        (arriving / volume.name).rename(folder / volume.name)
        total.add(volume.size)

    with fresh_folder(folder.with_name(f"{folder.name}-arriving")) as arriving:
        run_side_by_side(download, sorted(volumes, key=lambda volume: volume_sort_key(volume.name)), count)


@contextlib.contextmanager
def download_in_background(
    backend: Backend, volumes: Iterable[Volume], folder: Path, count: int, moved: Callable[[int], object]
) -> Iterator[Callable[[], None]]:
    """Run download_volumes() while the block runs. The end of the block waits until all volumes are there.

    Gives a function that the block calls now and then: it raises the failure of the download, if there is one.
    """
    failures: list[BaseException] = []
    stop = Stop()

    def run() -> None:
        try:
            download_volumes(backend, volumes, folder, count, moved, stop.check)
        except BaseException as exc:  # noqa: BLE001 - raised where the block is
            failures.append(exc)

    def check() -> None:
        if failures:
            raise failures[0]

    thread = Background(run)
    try:
        yield check
        while not thread.has_ended:
            thread.wait(_A_MOMENT)
        check()
    finally:
        stop.set()
        thread.wait(_GRACE)
