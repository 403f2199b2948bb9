"""The map of every uid or gid of the backed-up machine to an id on this one.

Takes the ids by name of both machines; gives the map of ids, the id of every name, and warnings. Pure. The map is made
of recorded ids and applied once, so chains and swaps are exact.
"""

from collections.abc import Mapping

from tklb.diff.accounts.lines import AccountTable
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass

# Debian Policy 9.2.2. An id stays in its range: a system account must not become a normal user.
RANGES = (
    range(100),
    range(100, 1000),
    range(1000, 60000),
    range(60000, 65000),
    range(65000, 65534),
    range(65536, 2**32 - 2),
)
ROOT, NOGROUP = 0, 65534
IMMOVABLE = frozenset({65534, 65535, 2**32 - 2})  # nobody, and the overflow ids of the kernel


@dataclass(frozen=True, slots=True)
class IdMap:
    """`ids` maps every id of a name of the backed-up machine; `names` has the new id of each of its names."""

    ids: Mapping[int, int]
    names: Mapping[bytes, int]
    warnings: tuple[str, ...]

    def __call__(self, number: int) -> int:
        """Map one id. An id that no name owned stays."""
        return self.ids.get(number, number)


class _FreeIds:
    """Gives ids that nobody has, the lowest of the range first."""

    def __init__(self, used: frozenset[int]) -> None:
        self._used = set(used)
        self._next_of: dict[range, int] = {}

    def take(self, kind: str, number: int) -> int:
        within = next(ids for ids in RANGES if number in ids)
        candidate = self._next_of.get(within, max(within.start, 1))
        while candidate in self._used:
            candidate += 1
        if candidate not in within:
            raise ValueError(f"no free {kind} between {within.start} and {within.stop - 1} for {number}")
        self._used.add(candidate)
        self._next_of[within] = candidate + 1
        return candidate


def map_ids(
    kind: str,
    old: AccountTable,
    new: AccountTable,
    taken: frozenset[int],
    reserved: frozenset[int],
    apart: frozenset[bytes] = frozenset(),
) -> IdMap:
    """Map the ids of `old`, in the order of its lines.

    `kind` is "uid" or "gid". A name that both have gets its id of `new`, and its aliases follow. Another id stays,
    unless it is in `taken` (in use on this machine). Then it moves to one that is in neither `taken` nor `reserved`,
    in the same range of RANGES. 0 and the IMMOVABLE never move. For the names in `apart`, this machine's account is
    another one: its id is not theirs. Raises ValueError if a range is full.
    """
    here = new.ids
    owners = new.owners
    free = _FreeIds(taken | reserved | old.claimed_ids)
    ids: dict[int, int] = {}
    names: dict[bytes, int] = {}
    warnings: list[str] = []
    for number, aliases in _group_aliases(old).items():
        known = tuple(dict.fromkeys(here[name] for name in aliases if name in here and name not in apart))
        if number == ROOT:
            ids[number] = ROOT
        elif known:
            ids[number] = known[0]
        else:
            ids[number] = _place(kind, number, free, taken, is_apart=not apart.isdisjoint(aliases))
        names |= {name: here.get(name, ids[number]) for name in aliases}
        warnings += _warn_of_split_ids(kind, number, ids[number], known, aliases)
        if not known and ids[number] == number in owners:
            warnings.append(f"{kind} {number} of {_join_names(aliases)} is also {printable(owners[number])}'s here")
    for entry in old.later:
        # a repeated line has no effect, and so its id is not root's
        goes = names[entry.name]
        is_root = goes == ROOT and entry.id != ROOT
        ids.setdefault(entry.id, _place(kind, entry.id, free, taken, is_apart=True) if is_root else goes)
    return IdMap(ids, names, (*warnings, *_warn_of_joined_ids(kind, ids)))


def _place(kind: str, number: int, free: _FreeIds, taken: frozenset[int], *, is_apart: bool) -> int:
    """The id itself where it may stay, else a free one. Users of a group that is apart get nogroup."""
    if is_apart and kind == "gid":
        return NOGROUP
    return number if number in IMMOVABLE or number not in taken else free.take(kind, number)


def _group_aliases(table: AccountTable) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for name, number in table.ids.items():
        found.setdefault(number, []).append(name)
    return found


def _warn_of_split_ids(kind: str, number: int, goes: int, known: tuple[int, ...], aliases: list[bytes]) -> list[str]:
    apart = [other for other in known if other != goes]
    if not apart:
        return []
    return [f"{kind} {number} is {_join_names(aliases)}; here their {kind}s differ: files of {number} go to {goes}"]


def _warn_of_joined_ids(kind: str, ids: Mapping[int, int]) -> list[str]:
    sources: dict[int, list[int]] = {}
    for number, goes in ids.items():
        sources.setdefault(goes, []).append(number)
    return [
        f"{kind}s {', '.join(map(str, numbers))} become one id here: {goes}"
        for goes, numbers in sources.items()
        if len(numbers) > 1
    ]


def _join_names(names: list[bytes]) -> str:
    return ", ".join(map(printable, names))
