"""The place of the next entry: its number, what it follows, which holes it explains, and which strays it knows. Pure.

A number is never used twice in a lineage, whatever target is used. So the next entry comes after the newest one that
this machine knows, and the newest at the target. What lies between them is elsewhere.
"""

from collections.abc import Iterable, Iterator

from tklb.lazy_dataclass import dataclass
from tklb.ledger.memory import LineageEnd
from tklb.ledger.read import Ledger
from tklb.model.snapshot import Excuse, LedgerEntry, Stray

ELSEWHERE, VOID = "elsewhere", "void"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next entry goes. `newest` is the newest snapshot of the lineage; "" for none."""

    lineage: str
    sequence: int
    previous: str
    excused: tuple[Excuse, ...]
    strays: tuple[Stray, ...]
    newest: str


def find_place(ledger: Ledger, end: LineageEnd | None, new_lineage: str) -> Place:
    """Find the place of the next entry at a target.

    `end` is where the lineage of this machine ends, as far as it knows. `new_lineage` is the id of the history that
    begins here, if none has begun.
    """
    head = ledger.entries[-1] if ledger.entries else None
    reached = head.sequence if head else 0
    lineage = (head.lineage if head else end.lineage if end else "") or new_lineage
    strays = tuple(sorted({*(head.strays if head else ()), *ledger.stray_digests}))
    excuses = [*(head.excused if head else ()), *(Excuse(first, last, VOID) for first, last in ledger.lost)]
    if end is None or end.lineage != lineage or end.sequence <= reached:
        newest = head.snapshot if head else ""
        return Place(lineage, reached + 1, ledger.head, tuple(_merge(excuses)), strays, newest)
    excuses.append(Excuse(reached + 1, end.sequence, ELSEWHERE))
    newest = max(end.snapshot, head.snapshot if head else "")
    return Place(lineage, end.sequence + 1, end.digest, tuple(_merge(excuses)), strays, newest)


def _merge(excuses: Iterable[Excuse]) -> Iterator[Excuse]:
    """The same holes, sorted, with neighbours of one kind in one."""
    kept: Excuse | None = None
    for excuse in sorted(excuses):
        if kept and kept.why == excuse.why and kept.last + 1 == excuse.first:
            kept = Excuse(kept.first, excuse.last, kept.why)
            continue
        if kept:
            yield kept
        kept = excuse
    if kept:
        yield kept


def end_of(entry: LedgerEntry, digest: str) -> LineageEnd:
    """Where a lineage ends whose newest entry is this one. `digest` is the SHA-256 of its bytes."""
    return LineageEnd(entry.lineage, entry.sequence, digest, entry.snapshot)
