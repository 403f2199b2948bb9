"""A rotating share of the volumes: what each run looks at, so that all are seen in turn.

Pure: takes the names there are and what earlier runs looked at, gives what is due now and what to remember.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Turn:
    """How far the rotation has got: the number of the last run, and of the run before each name was last due.

    A name that is new counts as looked at in the run before the first that knows it.
    """

    run: int = 0
    seen: Mapping[str, int] = field(default_factory=dict)


def take_share(names: Iterable[str], percent: Fraction, turn: Turn) -> tuple[tuple[str, ...], Turn]:
    """The names to look at in this run, sorted, and the turn after it. `percent` is above 0 and at most 100.

    Those not looked at for longest come first, by name among equals: so many as make the share, rounded up, and all
    that would else be missed by ceil(100/percent) runs in a row.
    """
    run, rounds = turn.run + 1, math.ceil(100 / percent)
    seen = {name: turn.seen.get(name, turn.run) for name in names}
    order = sorted(seen, key=lambda name: (seen[name], name))
    count = math.ceil(len(order) * percent / 100)
    due = [name for place, name in enumerate(order) if place < count or run - seen[name] >= rounds]
    return tuple(sorted(due)), Turn(run, seen | dict.fromkeys(due, run))
