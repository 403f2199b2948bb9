"""Whole copies of volumes elsewhere: a copy is used only if its SHA-256 matches the ledger."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tklb.base.fs import fresh_folder
from tklb.errors import TargetDamaged
from tklb.lazy_dataclass import dataclass
from tklb.model.snapshot import Volume
from tklb.storage.backend import Backend
from tklb.storage.check import ObjectProblem, check_objects
from tklb.storage.transfer import copy_volume, download_volume
from tklb.storage.upload import upload_volumes


@dataclass(frozen=True, slots=True)
class CopySources:
    """Where whole copies may be: folders of volumes, other targets, kept entries (`ledgers`), our own key file."""

    folders: tuple[Path, ...] = ()
    targets: tuple[Backend, ...] = ()
    ledgers: Path | None = None
    key_file: Path | None = None


def repair_chain(
    backend: Backend, volumes: Iterable[Volume], folders: tuple[Path, ...], work: Path
) -> tuple[ObjectProblem, ...]:
    """Upload again what is missing, or has another size, and is whole in `folders`. Gives the problems that remain.

    `work` must be a folder that is not there, or of ours. Raises what the backend raises.
    """
    wanted = {volume.name: volume for volume in volumes}
    problems = check_objects(backend, wanted.values())
    for problem in problems:
        _repair_volume(backend, wanted[problem.volume], CopySources(folders), work)
    return check_objects(backend, wanted.values()) if problems else ()


@contextmanager
def open_copy(volume: Volume, copies: CopySources, work: Path) -> Iterator[tuple[Path, str]]:
    """Give a folder with a checked copy of a volume, and where the copy was; "" where there is none."""
    with fresh_folder(work) as folder:
        yield folder, _copy_from_any(volume, copies, folder)


def _repair_volume(backend: Backend, volume: Volume, copies: CopySources, work: Path) -> None:
    with open_copy(volume, copies, work) as (folder, where):
        if where:
            upload_volumes(backend, folder, (volume,), 1)


def _copy_from_any(volume: Volume, copies: CopySources, folder: Path) -> str:
    """Copy a volume into `folder` from the first place that has it whole. Gives that place, "" for none."""
    destination = folder / volume.name
    for place in copies.folders:
        source = place / volume.name
        if _is_copied(partial(copy_volume, source, destination, volume), destination):
            return str(source)
    for other in copies.targets:
        if _is_copied(partial(download_volume, other, volume, folder), destination):
            return other.address
    return ""


def _is_copied(copy: partial[None], destination: Path) -> bool:
    """Whether `copy` gave a whole volume."""
    try:
        copy()
    except TargetDamaged:
        destination.unlink(missing_ok=True)
        return False
    return True
