"""A rotating share of the volumes: each run reads some, so that all are read in turn. The state file of the rotation.

take_share() is pure: it takes the names there are and the turns so far, and gives the names that are due now.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import field
from fractions import Fraction
from pathlib import Path
from typing import Any

from tklb.base.json import read_state, write_state
from tklb.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """The state of the rotation: the number of the last run, and for each name the run in which it was last read.

    A new name counts as read in the run before the first one that knows it.
    """

    run: int = 0
    seen: Mapping[str, int] = field(default_factory=dict)


def take_share(names: Iterable[str], percent: Fraction, turn: Turn) -> tuple[tuple[str, ...], Turn]:
    """Give the names to read in this run, sorted, and the turn after it. `percent` is above 0 and at most 100.

    The names that were read longest ago come first, sorted by name among equals: as many as make the share, rounded up.
    Names that ceil(100/percent) runs in a row would miss come too.
    """
    run, rounds = turn.run + 1, math.ceil(100 / percent)
    seen = {name: turn.seen.get(name, turn.run) for name in names}
    order = sorted(seen, key=lambda name: (seen[name], name))
    count = math.ceil(len(order) * percent / 100)
    due = [name for place, name in enumerate(order) if place < count or run - seen[name] >= rounds]
    return tuple(sorted(due)), Turn(run, seen | dict.fromkeys(due, run))


def read_turn(file: Path, address: str) -> Turn:
    """Read the turn of the target at `address` from the state file; the first turn where there is none."""

    def parse(turns: dict[str, Any]) -> Turn:
        known = turns[address]
        return Turn(int(known["run"]), {str(name): int(run) for name, run in known["seen"].items()})

    return read_state(file, parse, Turn())


def remember_turn(file: Path, address: str, turn: Turn) -> None:
    """Write the turn of the target at `address` into the state file, durably."""
    known: dict[str, Any] = read_state(file, dict, {})
    write_state(file, {**known, address: {"run": turn.run, "seen": dict(turn.seen)}})
