"""Counts, sizes and transfer rates as text: the same form in the log and on the terminal."""

import time


class Stopwatch:
    """Counts seconds from its creation, by a clock that nobody sets."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start


def format_size(count: int) -> str:
    """Bytes as people write them: `812 B`, `1.4 MB` (powers of 1000)."""
    amount, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def format_transfer(count: int, watch: Stopwatch) -> str:
    """So many bytes since the watch began, with the rate: `34.5 MB in 2.1 s (16.4 MB/s)`."""
    seconds = watch.seconds
    rate = format_size(int(count / max(seconds, 0.001)))
    return f"{format_size(count)} in {seconds:.1f} s ({rate}/s)"


def format_count(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 volume`, `3 volumes`, `2 entries`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
