"""The report of a run: items that it skipped, and what it found about the scope and beside a snapshot."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import takewhile
from typing import NamedTuple

from tklb.errors import COMPLETE, INCOMPLETE, printable
from tklb.lazy_dataclass import dataclass

_LISTED = 10  # items with one reason that are listed one by one
_NAMED = 5  # lines about skipped items in one line
_KEPT = 1000  # items with one reason and in one folder of / that a walk keeps one by one


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that a run could not take or put back. `item` is a path or `package:NAME`, `user:NAME`, ...

    `status` is the exit status of a run that is complete otherwise. `count` is more than one where `item` is a folder
    that stands for so many files below it.
    """

    item: bytes
    reason: str
    status: int = INCOMPLETE
    count: int = 1


class SkippedItems:
    """Collects what a stream skips while it is read: the one who reads the stream asks for it at the end.

    Everyone who takes part in one walk shares one collector. It is for one thread at a time. Memory does not grow with
    the number of items: of many files with the same reason the first are kept, and one item stands for the others.
    """

    def __init__(self, items: Iterable[Skipped] = ()) -> None:
        self._alike: dict[tuple[str, int, bytes], list[Skipped]] = {}
        self._rest: dict[tuple[str, int, bytes], Skipped] = {}
        self.extend(items)

    def append(self, item: Skipped) -> None:
        key = (item.reason, item.status, find_top(item.item))
        kept = self._alike.setdefault(key, [])
        if len(kept) < _KEPT or not key[2]:
            kept.append(item)
            return
        rest = self._rest.get(key)
        folder = _find_common_folder((rest.item + b"/" if rest else item.item, item.item))
        count = item.count + (rest.count if rest else 0)
        self._rest[key] = Skipped(folder, item.reason, item.status, count)

    def extend(self, items: Iterable[Skipped]) -> None:
        for item in items:
            self.append(item)

    def drop(self, items: Iterable[bytes]) -> None:
        """Forget what was skipped of these items: it came in another way."""
        dropped = frozenset(items)
        for kept in self._alike.values():
            kept[:] = [item for item in kept if item.item not in dropped]

    def __iter__(self) -> Iterator[Skipped]:
        for key, kept in self._alike.items():
            yield from kept
            yield from [self._rest[key]] if key in self._rest else []

    def __len__(self) -> int:
        return count_skipped(self)


def count_skipped(items: Iterable[Skipped]) -> int:
    """Count the files and other objects that these items stand for."""
    return sum(item.count for item in items)


def find_top(item: bytes) -> bytes:
    """Give the folder of / that a path is in; b"" for an item that is no path."""
    return item.split(b"/", 2)[1] if item.startswith(b"/") else b""


def fold_skipped(items: Iterable[Skipped]) -> Iterator[tuple[str, str, int]]:
    """Give what was skipped in few lines: item, reason, and the number of items that the line stands for.

    More than a few items with the same reason, in one folder of /, are one line. It names what their paths have in
    common.
    """
    alike: dict[tuple[str, bytes], list[Skipped]] = {}
    for item in items:
        alike.setdefault((item.reason, find_top(item.item)), []).append(item)
    for (reason, _), found in alike.items():
        count = count_skipped(found)
        if count > _LISTED:
            yield _describe_many(count, found), reason, count
        else:
            yield from ((printable(item.item), reason, 1) for item in found)


def describe_skipped(items: Sequence[Skipped]) -> str:
    """Give what was skipped in one line: the number, and the first items with their reasons."""
    lines = [f"{item}: {reason}" for item, reason, _ in fold_skipped(items)]
    more = f"; `tklb list --long` shows {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    count = count_skipped(items)
    return f"{count:,} {'item' if count == 1 else 'items'}: {'; '.join(lines[:_NAMED])}{more}"


def _describe_many(count: int, items: Sequence[Skipped]) -> str:
    if not all(item.item.startswith(b"/") for item in items):
        return f"{count:,} items, the first is {printable(items[0].item)}"
    names = [item.item if item.count == 1 else item.item + b"/" for item in items]
    return f"{count:,} files below {printable(_find_common_folder(names))}"


def _find_common_folder(paths: Sequence[bytes]) -> bytes:
    every = [path.split(b"/")[1:-1] for path in paths]
    first, last = min(every), max(every)  # what these two have in common, all between them have too
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return b"/" + b"/".join(name for name, _ in same)


def status_of(skipped: Iterable[Skipped]) -> int:
    """The exit status of a run that is complete apart from `skipped`."""
    return max((item.status for item in skipped), default=COMPLETE)


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run: people and machines get the same value."""

    done: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def step_count(self) -> int:
        """The number of steps: those done and those skipped add up to it."""
        return len(self.done) + len(self.skipped)


class FoundPath(NamedTuple):
    """A path that is in scope because of something on this machine, with everything below it."""

    path: bytes
    reason: str


class MountPoint(NamedTuple):
    """A mount point in scope. `taken` says whether a backup reads what is mounted there."""

    path: bytes
    kind: str
    bytes: int | None  # in use on the whole file system
    taken: bool
    reason: str


class OutsideItem(NamedTuple):
    """Something of the owner's that no rule takes. `is_whole`: the count is complete, and not only a lower bound."""

    path: bytes
    reason: str
    owner: bytes  # the name of the user whom it belongs to, or the number
    files: int
    bytes: int
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class FoundScope:
    """What was found on this machine, beyond the rules of the profile.

    `system` are those paths of packages in /usr that are not as the package brings them, `missing` those that somebody
    deleted there; `unwalked` are paths that a walk must not enter: mounts that are not taken, and `own`, the folders of
    tklb and its target by every path. `unread` could not be looked at, or is missing where that is damage.
    """

    paths: tuple[FoundPath, ...] = ()
    system: tuple[bytes, ...] = ()
    mounts: tuple[MountPoint, ...] = ()
    unwalked: tuple[bytes, ...] = ()
    missing: tuple[bytes, ...] = ()
    unread: tuple[Skipped, ...] = ()
    servers: tuple[FoundPath, ...] = ()  # patterns of what database servers keep, and is left out
    own: tuple[FoundPath, ...] = ()


class Unknown(NamedTuple):
    """One item. `kind` is file, folder, edited, missing, package, user or group.

    `edited` is a file of the install state that this machine changed, `missing` one that it lacks.
    """

    item: bytes
    kind: str


@dataclass(frozen=True, slots=True)
class UnknownItems:
    """The number of items of each kind, and the first of them. Files come in path order."""

    counts: Mapping[str, int] = field(default_factory=dict)
    listed: tuple[Unknown, ...] = ()

    @property
    def total(self) -> int:
        return sum(self.counts.values())
