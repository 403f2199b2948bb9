"""Check a merge of accounts, independently of tklb: what A, B before and B after must have in common.

Takes the books (passwd, group, shadow, gshadow, subuid, subgid) of roots, gives complaints as text; reads only.
Sources: passwd(5), group(5), shadow(5), gshadow(5), subuid(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

Lines = dict[str, list[str]]
UID, GID, GROUP_GID, MEMBERS, ADMINS = 2, 3, 2, 3, 2
FIRST_HUMAN, LAST_HUMAN = 1000, 59999


@dataclass(frozen=True)
class Books:
    """Every line by its name, split into fields; ranges as (name, first, count)."""

    passwd: Lines
    group: Lines
    shadow: Lines
    gshadow: Lines
    subuid: tuple[tuple[str, int, int], ...]
    subgid: tuple[tuple[str, int, int], ...]

    def group_name(self, gid: str) -> str:
        return next((name for name, line in self.group.items() if line[GROUP_GID] == gid), f"#{gid}")


def read_books(root: Path) -> Books:
    """The books of a root as they are now."""
    etc = root / "etc"
    lines = {name: _lines(etc / name) for name in ("passwd", "group", "shadow", "gshadow")}
    return Books(**lines, subuid=_ranges(etc / "subuid"), subgid=_ranges(etc / "subgid"))


def _fields(path: Path) -> list[list[str]]:
    return [line.split(":") for line in path.read_text("utf-8", "surrogateescape").splitlines() if ":" in line]


def _lines(path: Path) -> Lines:
    return {fields[0]: fields for fields in _fields(path)}


def _ranges(path: Path) -> tuple[tuple[str, int, int], ...]:
    return tuple((name, int(first), int(count)) for name, first, count in _fields(path))


def check_merge(old: Books, before: Books, after: Books, role: str = "replacement") -> list[str]:
    """Complaints about `after`, where `old` is the backed-up machine and `before` the new one before the restore."""
    return sorted({
        *_entries(old, before, after),
        *_secrets(old, after, role),
        *_numbers(old, before, after, "passwd", UID),
        *_numbers(old, before, after, "group", GROUP_GID),
        *_members(old, before, after),
        *_subordinates(old, before, after),
    })  # fmt: skip


def _entries(old: Books, before: Books, after: Books) -> Iterator[str]:
    for name, line in old.passwd.items():
        now = after.passwd.get(name)
        if now is None:
            yield f"user {name} is missing"
        elif now[:UID] + now[GID + 1 :] != line[:UID] + line[GID + 1 :]:
            yield f"user {name}: {line} became {now}"
        elif old.group_name(line[GID]) != after.group_name(now[GID]):
            yield f"user {name}: group {old.group_name(line[GID])} became {after.group_name(now[GID])}"
    yield from (f"group {name} is missing" for name in old.group if name not in after.group)
    for book, mine in (("user", "passwd"), ("group", "group")):
        lost = getattr(before, mine).keys() - getattr(after, mine).keys()
        yield from (f"{book} {name} of the new machine is lost" for name in lost)


def _secrets(old: Books, after: Books, role: str) -> Iterator[str]:
    for name, line in old.shadow.items():
        if after.shadow.get(name) != line and not (name == "root" and role == "clone"):
            yield f"shadow of {name} differs"
    for name in after.passwd:
        if name not in after.shadow:
            yield f"user {name} has no shadow line"
    for name in after.group:
        if name not in after.gshadow:
            yield f"group {name} has no gshadow line"


def _numbers(old: Books, before: Books, after: Books, book: str, field: int) -> Iterator[str]:
    olds, befores, afters = (
        {name: int(line[field]) for name, line in getattr(books, book).items()} for books in (old, before, after)
    )
    for name, number in afters.items():
        if name in befores and number != befores[name]:
            yield f"{book}: {name} was {befores[name]} on the new machine and became {number}"
        if name in olds and _range_of(number) != _range_of(olds[name]):
            yield f"{book}: {name} left its range: {olds[name]} became {number}"
    for one, other in combinations(afters, 2):
        shared = [names.get(one, -1) == names.get(other, -2) for names in (olds, befores, afters)]
        if shared[2] and not (shared[0] or shared[1]):
            yield f"{book}: {one} and {other} share {afters[one]}"
        if shared[0] and not shared[2] and not {one, other} <= befores.keys():
            yield f"{book}: {one} and {other} are no aliases any more"


def _range_of(number: int) -> str:
    return "human" if FIRST_HUMAN <= number <= LAST_HUMAN else "system" if number < FIRST_HUMAN else "other"


def _members(old: Books, before: Books, after: Books) -> Iterator[str]:
    """Members are those of both machines; administrators at least the backed-up machine's."""
    for book in ("group", "gshadow"):
        for name, line in getattr(after, book).items():
            wanted = _people(old, book, name, MEMBERS) | _people(before, book, name, MEMBERS)
            if wanted != _people(after, book, name, MEMBERS):
                yield f"{book} {name}: members {sorted(wanted)} became {line[MEMBERS]}"
    for name, line in after.gshadow.items():
        if not _people(old, "gshadow", name, ADMINS) <= _people(after, "gshadow", name, ADMINS):
            yield f"gshadow {name}: administrators became {line[ADMINS]}"


def _people(books: Books, book: str, group: str, field: int) -> set[str]:
    return set(getattr(books, book).get(group, [""] * 4)[field].split(",")) - {""}


def _subordinates(old: Books, before: Books, after: Books) -> Iterator[str]:
    for book in ("subuid", "subgid"):
        ranges: tuple[tuple[str, int, int], ...] = getattr(after, book)
        for one, other in combinations(ranges, 2):
            if one[1] < other[1] + other[2] and other[1] < one[1] + one[2]:
                yield f"{book}: {one} and {other} overlap"
        for name, _, count in getattr(old, book):
            owner = name if not name.isdigit() else _same_person(old, after, name)
            if not any(line[0] == owner and line[2] == count for line in ranges):
                yield f"{book}: {name} has lost a range of {count}"
        yield from (
            f"{book}: {line} of the new machine is lost" for line in getattr(before, book) if line not in ranges
        )


def _same_person(old: Books, after: Books, uid: str) -> str:
    """The new number of whoever had this one; the number itself if nobody had."""
    name = next((name for name, line in old.passwd.items() if line[UID] == uid), None)
    return after.passwd[name][UID] if name in after.passwd else uid
