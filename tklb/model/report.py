"""The report of a run, and the items that it skipped."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tklb.errors import COMPLETE, INCOMPLETE


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


def status_of(skipped: Iterable[Skipped]) -> int:
    """The exit status of a run that is complete apart from `skipped`."""
    return max((item.status for item in skipped), default=COMPLETE)


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run: people and machines get the same value."""

    done: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = field(default=())
