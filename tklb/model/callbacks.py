"""What a run is given: a clock, and a callback that long work reports its progress to."""

from collections.abc import Callable
from datetime import datetime

Clock = Callable[[], datetime]


def ignore_progress(_activity: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


# how far a run is: what it does, how much is done, of how much (0: not known)
Progress = Callable[[str, int, int], None]
