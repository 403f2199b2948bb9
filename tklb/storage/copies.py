"""Whole copies of volumes elsewhere: a copy is used only if its SHA-256 matches the ledger."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tklb.base.fs import fresh_folder
from tklb.errors import TargetDamaged
from tklb.model.snapshot import Volume
from tklb.storage.backend import Backend
from tklb.storage.check import ObjectProblem, check_objects
from tklb.storage.transfer import copy_checked, fetch_volumes
from tklb.storage.upload import upload


@dataclass(frozen=True, slots=True)
class CopySources:
    """Where whole copies may be: folders of volumes, other targets, kept entries (`ledgers`), our own key file."""

    folders: tuple[Path, ...] = ()
    targets: tuple[Backend, ...] = ()
    ledgers: Path | None = None
    key_file: Path | None = None


def repair_chain(
    target: Backend, volumes: Iterable[Volume], folders: tuple[Path, ...], work: Path
) -> tuple[ObjectProblem, ...]:
    """Put back what a listing shows to be missing or of another size and `folders` have whole; give what remains.

    `work` must be a folder that is not there, or of ours. Raises what the target raises.
    """
    wanted = {volume.name: volume for volume in volumes}
    for problem in (found := check_objects(target, wanted.values())):
        with open_copy(wanted[problem.volume], CopySources(folders), work) as (folder, where):
            if where:
                upload(target, folder, (wanted[problem.volume],), 1)
    return check_objects(target, wanted.values()) if found else ()


@contextmanager
def open_copy(volume: Volume, copies: CopySources, work: Path) -> Iterator[tuple[Path, str]]:
    """A folder with a checked copy of a volume, and where that came from; "" where there is none."""
    with fresh_folder(work) as folder:
        for place in copies.folders:
            try:
                copy_checked(place / volume.name, folder / volume.name, volume)
            except TargetDamaged:
                (folder / volume.name).unlink(missing_ok=True)
                continue
            yield folder, str(place / volume.name)
            return
        for other in copies.targets:
            try:
                fetch_volumes(other, (volume,), folder)
            except TargetDamaged:
                (folder / volume.name).unlink(missing_ok=True)
                continue
            yield folder, other.address
            return
        yield folder, ""
