"""Bytes, sizes and times as text."""

import base64
from datetime import datetime, timedelta

from tklb.base.measure import format_count, format_size
from tklb.errors import printable


def path_fields(path: bytes, key: str = "path") -> dict[str, str]:
    """The JSON fields of a path: exact under `path` where it is UTF-8, else printable with `path_b64` beside it."""
    try:
        return {key: path.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: printable(path), f"{key}_b64": base64.b64encode(path).decode("ascii")}


def size(count: int) -> str:
    """Bytes as people write them: `812 B`, `1.4 MB` (powers of 1000)."""
    return format_size(count)


def moment(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def age(span: timedelta) -> str:
    """How long ago, in the largest whole unit; with a minus what a clock put a minute or more ahead."""
    sign, seconds = "-" if span < timedelta(0) else "", int(abs(span).total_seconds())
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            count = seconds // length
            return f"{sign}{count} {unit}{'' if count == 1 else 's'}"
    return f"{0 if sign else seconds} seconds"


def plural(count: int, noun: str) -> str:
    return format_count(count, noun)
