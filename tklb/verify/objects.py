"""Check the volumes: all of them by a listing, and those whose turn it is by content."""

import logging
from collections.abc import Sequence

from tklb.base.fs import private_folder
from tklb.base.measure import Stopwatch, format_count, format_transfer
from tklb.engine.duplicity import select_restore_volumes
from tklb.lazy_dataclass import dataclass
from tklb.model.snapshot import LedgerEntry, Volume
from tklb.model.volume_names import snapshot_of_volume
from tklb.storage.check import ObjectProblem, check_objects, find_unexpected
from tklb.storage.probe import read_traits
from tklb.verify.open_target import Verification
from tklb.verify.result import Depth
from tklb.verify.sample import Turn, read_turn, take_share

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VolumeSelection:
    """The volumes in question; those whose content is `due`; and the `turn` to remember after a check of a share."""

    volumes: tuple[Volume, ...]
    due: tuple[Volume, ...]
    turn: Turn | None = None

    @property
    def due_bytes(self) -> int:
        return sum(volume.size for volume in self.due)


def select_volumes(verification: Verification, entries: Sequence[LedgerEntry]) -> VolumeSelection:
    """Select the volumes to check. A single snapshot needs no signatures: only the next increment does."""
    request, ledger = verification.request, verification.ledger
    if request.snapshot is None:
        volumes = tuple(sorted(ledger.volumes.values(), key=lambda volume: volume.name))
    else:
        volumes = tuple(volume for entry in entries for volume in select_restore_volumes(entry.volumes))
    if request.depth in (Depth.QUICK, Depth.LIVE):
        return VolumeSelection(volumes, ())
    if request.percent is None:
        return VolumeSelection(volumes, volumes)
    known = read_turn(verification.session.paths.sample_turns, verification.backend.address)
    share, turn = take_share((volume.name for volume in volumes), request.percent, known)
    names = frozenset(share)
    return VolumeSelection(volumes, tuple(volume for volume in volumes if volume.name in names), turn)


def check_volumes(
    verification: Verification, selection: VolumeSelection, lost: frozenset[str]
) -> tuple[ObjectProblem, ...]:
    """Give the problems of the volumes, sorted by name, and the objects that no ledger entry names.

    Volumes of a `lost` snapshot are not unexpected: its entry is damaged or missing, and may come back.
    """
    target, listed = verification.backend, check_objects(verification.backend, selection.volumes)
    log.info("listed %s: %d missing or of another size", format_count(len(selection.volumes), "volume"), len(listed))
    bad = {problem.volume for problem in listed}
    problems = listed + _hash(verification, [volume for volume in selection.due if volume.name not in bad])
    if verification.request.snapshot is None:
        left = read_traits(verification.session.paths.target_traits, target.address).left  # a backup has reported them
        unexpected = find_unexpected(target, (*verification.ledger.volumes, *left))
        problems += tuple(one for one in unexpected if snapshot_of_volume(one.volume) not in lost)
    return tuple(sorted(problems, key=lambda problem: problem.volume))


def _hash(verification: Verification, volumes: Sequence[Volume]) -> tuple[ObjectProblem, ...]:
    if not volumes:
        return ()
    watch, total, session = Stopwatch(), sum(volume.size for volume in volumes), verification.session
    problems = check_objects(
        verification.backend,
        volumes,
        private_folder(verification.work / "volumes"),
        lambda done: session.progress("hashing volumes", done, total),
        session.config.uploads,
    )
    count = format_count(len(volumes), "volume")
    log.info("hashed %s, %s: %d damaged", count, format_transfer(total, watch), len(problems))
    return problems
