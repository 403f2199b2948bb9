"""The report of a run: items that it skipped, and what it found about the scope and beside a snapshot."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from tklb.errors import COMPLETE, INCOMPLETE, printable

_LISTED = 10  # items with one reason that are listed one by one


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that a run could not take or put back. `item` is a path or `package:NAME`, `user:NAME`, ...

    `status` is the exit status of a run that is complete otherwise.
    """

    item: bytes
    reason: str
    status: int = INCOMPLETE


class SkippedItems:
    """Collects what a stream skips while it is read: the one who reads the stream asks for it at the end.

    Everyone who takes part in one walk shares one collector. It is for one thread at a time.
    """

    def __init__(self, items: Iterable[Skipped] = ()) -> None:
        self._items = list(items)

    def append(self, item: Skipped) -> None:
        self._items.append(item)

    def extend(self, items: Iterable[Skipped]) -> None:
        self._items.extend(items)

    def drop(self, items: Iterable[bytes]) -> None:
        """Forget what was skipped of these items: it came in another way."""
        dropped = frozenset(items)
        self._items = [item for item in self._items if item.item not in dropped]

    def __iter__(self) -> Iterator[Skipped]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def fold_skipped(items: Iterable[Skipped]) -> Iterator[tuple[str, str, int]]:
    """Give what was skipped in few lines: item, reason, and the number of items that the line stands for.

    More than a few items with the same reason, in one folder of /, are one line. It names what their paths have in
    common.
    """
    alike: dict[tuple[str, bytes], list[bytes]] = {}
    for item in items:
        top = item.item.split(b"/")[1] if item.item.startswith(b"/") else b""
        alike.setdefault((item.reason, top), []).append(item.item)
    for (reason, _), names in alike.items():
        if len(names) > _LISTED:
            yield _describe_many(names), reason, len(names)
        else:
            yield from ((printable(name), reason, 1) for name in names)


def _describe_many(names: Sequence[bytes]) -> str:
    if not all(name.startswith(b"/") for name in names):
        return f"{len(names):,} items, the first is {printable(names[0])}"
    return f"{len(names):,} files below {printable(_find_common_folder(names))}"


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

    `system` are those paths of packages in /usr that are not as the package brings them; `unwalked` are paths that a
    walk must not enter: mounts that are not taken, and other paths of the target.
    """

    paths: tuple[FoundPath, ...] = ()
    system: tuple[bytes, ...] = ()
    mounts: tuple[MountPoint, ...] = ()
    unwalked: tuple[bytes, ...] = ()


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
