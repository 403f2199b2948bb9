"""What a run could not take or put back, and what it did."""

from collections.abc import Iterable
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
