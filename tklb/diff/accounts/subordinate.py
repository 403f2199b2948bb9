"""Merge the subordinate id ranges of two machines (subuid(5), subgid(5)).

Takes the lines of the backed-up machine (old) and of this one (new); gives the merged lines and warnings. Pure.

The lines of this machine stay. A range of the backed-up machine that overlaps none of them is added as it is. If it
overlaps, its owner gets a free range of that size, or keeps one of that size that it has here. So a second merge
changes nothing. Ranges that shared ids on the backed-up machine still share them if none must move.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tklb.diff.accounts.id_map import IdMap
from tklb.diff.accounts.lines import MAX_ID, parse_id
from tklb.diff.accounts.merge_lines import MergedLines
from tklb.errors import printable

FIRST = 100_000  # SUB_UID_MIN and SUB_GID_MIN of login.defs(5)
Owner = int | bytes


class Range(NamedTuple):
    """A line. `who` is the uid of the owner on this machine, or the name as written if no account has it."""

    owner: bytes
    start: int
    length: int
    who: Owner

    @property
    def stop(self) -> int:
        return self.start + self.length

    @property
    def line(self) -> bytes:
        return b"%s:%d:%d" % (self.owner, self.start, self.length)

    def overlaps(self, other: "Range") -> bool:
        return self.start < other.stop and other.start < self.stop

    def is_within(self, other: "Range") -> bool:
        return self.who == other.who and other.start <= self.start and self.stop <= other.stop


def merge_ranges(
    file: str,
    old: tuple[bytes, ...],
    new: tuple[bytes, ...],
    uids: IdMap,
    ids: Mapping[bytes, int],
    used: Iterable[int],
) -> MergedLines:
    """Merge one of the two files; `file` is its name.

    `ids` are the uids of the merged passwd, `used` the ids that no moved range may hold.
    """
    here = [found for line in new if (found := _parse_range(line, ids))]
    wanted = [found for line in old if (found := _parse_range(_map_owner(line, uids), ids))]
    needed = [want for want in dict.fromkeys(wanted) if not any(want.is_within(have) for have in here)]
    asked = {want[1:] for want in wanted}
    spare = [have for have in here if have[1:] not in asked]
    busy = [*here, *wanted, *(Range(b"", number, 1, b"") for number in used if number >= FIRST)]
    added: list[Range] = []
    warnings: list[str] = []
    for want in needed:
        if not any(want.overlaps(have) for have in here):
            added.append(want)
            continue
        own = next((have for have in spare if (have.who, have.length) == (want.who, want.length)), None)
        if own:
            spare.remove(own)
        goes = own or _find_free_range(want, busy)
        if goes and not own:
            added.append(goes)
            busy.append(goes)
        warnings.append(_describe_move(file, want, goes))
    odd, odd_warnings = _find_odd_lines(file, old, new, ids)
    return MergedLines((*new, *(item.line for item in added), *odd), (*warnings, *odd_warnings))


def _parse_range(line: bytes, ids: Mapping[bytes, int]) -> Range | None:
    owner, _, rest = line.partition(b":")
    numbers = [parse_id(text) for text in rest.split(b":")]
    if not owner or line.startswith(b"#") or len(numbers) != 2:
        return None
    start, length = numbers
    if start is None or not length or start + length > MAX_ID + 1:
        return None
    return Range(owner, start, length, _find_owner(owner, ids))


def _find_owner(owner: bytes, ids: Mapping[bytes, int]) -> Owner:
    if owner in ids:
        return ids[owner]
    uid = parse_id(owner)
    return owner if uid is None else uid


def _map_owner(line: bytes, uids: IdMap) -> bytes:
    """Map an owner that is given by number. The owners of subgid are users too."""
    owner, _, rest = line.partition(b":")
    uid = parse_id(owner)
    if uid is None or uids(uid) == uid:
        return line
    return b"%d:%s" % (uids(uid), rest)


def _find_free_range(want: Range, busy: list[Range]) -> Range | None:
    """Give the lowest free range of that size, or None if there is none."""
    start = FIRST
    for other in sorted(busy, key=lambda taken: taken.start):
        if other.start >= start + want.length:
            break
        start = max(start, other.stop)
    return want._replace(start=start) if start + want.length <= MAX_ID else None


def _describe_move(file: str, want: Range, goes: Range | None) -> str:
    fate = f"moves to {goes.start}" if goes else "is left out, because no range is free"
    return f"/etc/{file}: the range {want.start} (length {want.length}) of {printable(want.owner)} is taken and {fate}"


def _find_odd_lines(
    file: str, old: tuple[bytes, ...], new: tuple[bytes, ...], ids: Mapping[bytes, int]
) -> tuple[list[bytes], list[str]]:
    """Give the lines that are no ranges, which are kept, and a warning for each."""
    odd = {line for line in (*old, *new) if line.strip() and not _parse_range(line, ids)}
    warnings = [
        f"/etc/{file} of {whose}, line {row + 1}: not a range, kept"
        for lines, whose in ((old, "the backed-up machine"), (new, "this machine"))
        for row, line in enumerate(lines)
        if line in odd
    ]
    known = frozenset(new)
    return [line for line in dict.fromkeys(old) if line in odd and line not in known], warnings
