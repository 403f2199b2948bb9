"""What a run could not take or put back, and what it did."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from tklb.errors import COMPLETE, INCOMPLETE


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that could not be taken or put back. `item` is a path or `package:NAME`, `user:NAME`, ...

    `status` is the exit status that it gives a run which is complete but for it.
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


def status_of(skipped: Iterable[Skipped]) -> int:
    """The exit status of a run that is complete but for `skipped`."""
    return max((item.status for item in skipped), default=COMPLETE)


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did: shown to people and printed as JSON from the same value."""

    done: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def joined(self, other: Self) -> Self:
        return type(self)(self.done + other.done, self.skipped + other.skipped, self.warnings + other.warnings)
