"""The request for a verification, and its result. Pure."""

from dataclasses import field
from enum import StrEnum
from fractions import Fraction

from tklb.errors import COMPLETE, INCOMPLETE, TargetDamaged
from tklb.lazy_dataclass import dataclass
from tklb.model.plan import Step
from tklb.model.report import Skipped, UnknownItems
from tklb.model.snapshot import LedgerEntry
from tklb.verify.problem import Problem


class Depth(StrEnum):
    QUICK = "quick"  # one listing against the ledger
    HASH = "hash"  # the content of every volume
    DATA = "data"  # every snapshot decoded, and compared with its metadata
    LIVE = "live"  # one snapshot compared with this machine


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """`percent` limits the volumes that are read to this share; `spare` is an address that may have whole copies."""

    snapshot: str | None = None  # all of them
    depth: Depth = Depth.HASH
    percent: Fraction | None = None
    repair: bool = False
    spare: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The `snapshots` in question, the number of their `volumes`, and how many of those it `read`; and the problems."""

    address: str
    depth: Depth
    newest: LedgerEntry | None
    snapshots: tuple[str, ...]
    volumes: int
    read: int
    read_bytes: int
    problems: tuple[Problem, ...] = ()
    differences: tuple[Step, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    unknown: UnknownItems = field(default_factory=UnknownItems)  # here, and not in the snapshot
    gaps: tuple[tuple[str, tuple[Skipped, ...]], ...] = ()  # snapshots with what their backups skipped

    @property
    def is_ok(self) -> bool:
        """Whether nothing is lost: an object that no ledger entry names costs nothing."""
        return all(problem.is_repaired or problem.is_harmless for problem in self.problems)

    @property
    def whole_snapshots(self) -> tuple[str, ...]:
        """The snapshots without a problem."""
        broken = {snapshot for problem in self.problems if not problem.is_repaired for snapshot in problem.snapshots}
        return tuple(snapshot for snapshot in self.snapshots if snapshot not in broken)

    @property
    def exit_status(self) -> int:
        if not self.is_ok:
            return TargetDamaged.code
        is_same = not (self.differences or self.skipped or self.unknown.total)
        is_clean = all(problem.is_repaired for problem in self.problems) and is_same
        return COMPLETE if is_clean else INCOMPLETE
