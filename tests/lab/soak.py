"""Long versions of tests: TKLB_SOAK in the environment asks for every case, otherwise some stand for all."""

import os
from collections.abc import Iterable
from typing import TypeVar

SOAK = bool(os.environ.get("TKLB_SOAK"))
Case = TypeVar("Case")


def examples(many: int) -> int:
    """How many inputs of hypothesis stand for the `many` of a soak."""
    return many if SOAK else max(20, many // 5)


def some(cases: Iterable[Case], every: int, first: int = 0) -> list[Case]:
    """Every n-th case from the `first` on; all of them in a soak."""
    chosen = list(cases)
    return chosen if SOAK else chosen[first::every]
