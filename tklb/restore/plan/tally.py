"""One line for many paths of a kind. Pure."""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from tklb.errors import printable

Key = TypeVar("Key", bound=Hashable)


class Tally(Generic[Key]):
    """Counts paths by a key, and keeps the first path of each key."""

    def __init__(self) -> None:
        self._first: dict[Key, bytes] = {}
        self._count: dict[Key, int] = {}

    def note(self, key: Key, path: bytes) -> None:
        self._first.setdefault(key, path)
        self._count[key] = self._count.get(key, 0) + 1

    def lines(self) -> Iterator[tuple[Key, str]]:
        """Give every key with `first path (and N more)`, in the order of the first paths."""
        for key, path in self._first.items():
            more = self._count[key] - 1
            yield key, printable(path) + (f" (and {more} more)" if more else "")
