"""Where every uid or gid of the backed-up machine goes on this one.

Takes the ids by name of both machines, gives the map of ids, the id of every name, and warnings. Pure, and exact by
construction: the map is made of recorded ids and applied once, so chains and swaps need no care.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tklb.diff.accounts.lines import AccountTable
from tklb.errors import printable

# Debian Policy 9.2.2. The class of an id never changes: a system account must not wake up as a person.
RANGES = (
    range(100),
    range(100, 1000),
    range(1000, 60000),
    range(60000, 65000),
    range(65000, 65534),
    range(65536, 2**32 - 2),
)
ROOT = 0
IMMOVABLE = frozenset({65534, 65535, 2**32 - 2})  # nobody, the kernel's overflow id, and its 16-bit and 32-bit kin


@dataclass(frozen=True, slots=True)
class IdMap:
    """`ids` has every id that names of the backed-up machine have; `names` every one of its names."""

    ids: Mapping[int, int]
    names: Mapping[bytes, int]
    warnings: tuple[str, ...]

    def __call__(self, number: int) -> int:
        """A number that no name owned keeps its value."""
        return self.ids.get(number, number)


@dataclass(slots=True)
class _FreeIds:
    """Gives ids nobody has, the lowest of the range first."""

    used: set[int]
    next_of: dict[range, int] = field(default_factory=dict)

    def take(self, kind: str, number: int) -> int:
        within = next(ids for ids in RANGES if number in ids)
        candidate = self.next_of.get(within, max(within.start, 1))
        while candidate in self.used:
            candidate += 1
        if candidate not in within:
            raise ValueError(f"no {kind} is free between {within.start} and {within.stop - 1} for {number}")
        self.used.add(candidate)
        self.next_of[within] = candidate + 1
        return candidate


def map_ids(kind: str, old: AccountTable, new: AccountTable, taken: frozenset[int], reserved: frozenset[int]) -> IdMap:
    """Say where the ids of `old` go, in the order of its lines.

    `kind` is "uid" or "gid". A name that both have gets its id of `new`, and its aliases follow it. Others keep
    theirs unless it is in `taken` (ids in use on this machine); those move to one that is in neither `taken` nor
    `reserved`, within RANGES. 0 and the IMMOVABLE never move. Raises ValueError when a range is full.
    """
    here = new.ids
    owners = new.owners
    free = _FreeIds(set(taken | reserved | old.claimed_ids))
    ids: dict[int, int] = {}
    names: dict[bytes, int] = {}
    warnings: list[str] = []
    for number, aliases in _group_aliases(old).items():
        known = tuple(dict.fromkeys(here[name] for name in aliases if name in here))
        if number == ROOT:
            ids[number] = ROOT
        elif known:
            ids[number] = known[0]
        elif number in IMMOVABLE or number not in taken:
            ids[number] = number
        else:
            ids[number] = free.take(kind, number)
        names |= {name: here.get(name, ids[number]) for name in aliases}
        warnings += _warn_of_split_ids(kind, number, ids[number], known, aliases)
        if not known and ids[number] in owners:
            warnings.append(f"{kind} {number} of {_join_names(aliases)} is also {printable(owners[number])}'s here")
    for entry in old.later:
        ids.setdefault(entry.id, names[entry.name])
    return IdMap(ids, names, (*warnings, *_warn_of_joined_ids(kind, ids)))


def _group_aliases(table: AccountTable) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for name, number in table.ids.items():
        found.setdefault(number, []).append(name)
    return found


def _warn_of_split_ids(kind: str, number: int, goes: int, known: tuple[int, ...], aliases: list[bytes]) -> list[str]:
    apart = [other for other in known if other != goes]
    if not apart:
        return []
    return [f"{kind} {number} is {_join_names(aliases)}; here their {kind}s differ: what has {number} goes to {goes}"]


def _warn_of_joined_ids(kind: str, ids: Mapping[int, int]) -> list[str]:
    sources: dict[int, list[int]] = {}
    for number, goes in ids.items():
        sources.setdefault(goes, []).append(number)
    return [
        f"{kind}s {', '.join(map(str, numbers))} become one here: {goes}"
        for goes, numbers in sources.items()
        if len(numbers) > 1
    ]


def _join_names(names: list[bytes]) -> str:
    return ", ".join(map(printable, names))
