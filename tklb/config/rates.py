"""The rate limit by time of day: text in, a timetable out. Touches neither clock nor network.

2M                          always two mebibytes a second
08:00,512K 18:00,off        512 KiB a second from 08:00 on, no limit from 18:00 on
"""

import re
from bisect import bisect_right
from datetime import time

from tklb.lazy_dataclass import dataclass

SLOWEST = 1024  # bytes a second; a smaller number probably lacks its K
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([KMG]?)", re.ASCII | re.IGNORECASE)
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class Timetable:
    """Bytes a second from a time of day on, by time; None: no limit. The last holds until the first of the next day."""

    changes: tuple[tuple[time, float | None], ...]

    def rate_at(self, moment: time) -> float | None:
        """The limit at a time of day, local time."""
        return self.changes[bisect_right(self.changes, moment, key=lambda change: change[0]) - 1][1]


def parse_rates(text: str) -> Timetable:
    """Read `RATE`, or `HH:MM,RATE` as often as wanted, blanks between. Raises ValueError, which says what is wrong."""
    words = text.split()
    if len(words) == 1 and "," not in words[0]:
        return Timetable(((time(), _rate(words[0])),))
    changes = dict(_change(word) for word in words)
    if not words or len(changes) < len(words):
        raise ValueError(f"`{text}` says nothing" if not words else f"`{text}` says one time twice")
    return Timetable(tuple(sorted(changes.items(), key=lambda change: change[0])))


def _change(word: str) -> tuple[time, float | None]:
    clock, comma, rate = word.partition(",")
    found = _CLOCK.fullmatch(clock)
    if not found or not comma:
        raise ValueError(f"`{word}` is no time and rate: write them like 08:00,512K")
    return time(int(found[1]), int(found[2])), _rate(rate)


def _rate(word: str) -> float | None:
    if word.lower() == "off":
        return None
    found = _RATE.fullmatch(word)
    if not found:
        raise ValueError(f"`{word}` is no rate: write bytes a second like 512K, 2M or 1.5G, or off")
    rate = float(found[1]) * _FACTORS[found[2].upper()]
    if rate < SLOWEST:
        raise ValueError(f"`{word}` is less than 1K a second: K, M or G follow the number, and `off` is no limit")
    return rate
