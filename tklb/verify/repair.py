"""Repair a target: put back a whole copy of each object that is missing or damaged.

Takes a target, what is sealed, and where copies may be. A copy is used only if it is exactly what was sealed. Touches
the target, and a private folder that copies pass through.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tklb.base.fs import fresh_folder
from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import ENTRY_NAME, LONGEST_ENTRY, authentication_key, open_entry
from tklb.ledger.memory import copies_folder
from tklb.ledger.read import Ledger
from tklb.model.secret import Secret
from tklb.storage.backend import KEY, LEDGER, Backend
from tklb.storage.copies import CopySources, open_copy
from tklb.storage.upload import upload_object, upload_volumes
from tklb.verify.problem import Problem

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EntryCopy:
    """A copy of a ledger entry. `name` has the snapshot, which the problem may not know; `place` says where it is."""

    name: str
    content: bytes
    place: str


def repair(
    backend: Backend, ledger: Ledger, problems: Iterable[Problem], copies: CopySources, work: Path, put: bool
) -> tuple[Problem, ...]:
    """Find whole copies of missing or damaged objects, and put them back where `put`; give the problems so changed."""
    repairer = Repairer(backend, ledger, copies, work, put)
    return tuple(repairer.repair(problem) for problem in problems)


@dataclass(frozen=True, slots=True)
class Repairer:
    backend: Backend
    ledger: Ledger
    copies: CopySources
    work: Path
    put: bool

    def repair(self, problem: Problem) -> Problem:
        """Repair one problem, if there is a whole copy; give the problem with the place of the copy."""
        if problem.kind == "unexpected":
            return problem
        if problem.volume == KEY:
            repaired = self._repair_key(problem)
        elif problem.volume.startswith(LEDGER):
            repaired = self._repair_entry(problem)
        else:
            repaired = self._repair_volume(problem)
        if repaired.is_repaired:
            log.info("repaired %s from %s", repaired.volume, repaired.copy)
        return repaired

    def _repair_volume(self, problem: Problem) -> Problem:
        volume = self.ledger.volumes.get(problem.volume)
        if volume is None:
            return problem
        with open_copy(volume, self.copies, self.work) as (folder, place):
            if place and self.put:
                upload_volumes(self.backend, folder, (volume,), 1)
            return replace(problem, copy=place, is_repaired=bool(place) and self.put)

    def _repair_key(self, problem: Problem) -> Problem:
        key_file = self.copies.key_file
        if key_file is None or not key_file.exists():
            return problem
        if self.put:
            upload_object(self.backend, KEY, key_file)
        return replace(problem, copy=str(key_file), is_repaired=self.put)

    def _repair_entry(self, problem: Problem) -> Problem:
        found = self._find_entry_copies(problem.volume)
        copy = next((copy for copy in found if _is_authentic(copy, self.ledger.secrets)), None)
        if copy is None:
            return problem
        if self.put:
            with fresh_folder(self.work) as folder:
                (folder / "entry").write_bytes(copy.content)
                upload_object(self.backend, copy.name, folder / "entry")
        return replace(problem, volume=copy.name, copy=copy.place, is_repaired=self.put)

    def _find_entry_copies(self, name: str) -> Iterator[EntryCopy]:
        if self.copies.ledgers:
            place = copies_folder(self.backend.address, self.copies.ledgers)
            for path in sorted(place.glob(f"{name.removeprefix(LEDGER)}*")):
                yield EntryCopy(LEDGER + path.name, path.read_bytes(), str(path))
        for other in self.copies.targets:
            for found in (one.name for one in other.list(LEDGER) if one.name.startswith(name)):
                yield EntryCopy(found, other.read(found, LONGEST_ENTRY), other.address)


def _is_authentic(copy: EntryCopy, secrets: Mapping[str, Secret]) -> bool:
    if not ENTRY_NAME.fullmatch(copy.name):
        return False
    for secret in secrets.values():
        try:
            open_entry(copy.name, copy.content, authentication_key(secret))
            return True
        except (ValueError, KeyError, TypeError):
            continue
    return False
