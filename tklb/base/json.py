"""Small files of JSON that keep what a run has to remember. A lost or damaged file is as good as none.

Takes a path and values; touches that file. It is for state only: files that people write have a parser that complains.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tklb.base.fs import write_atomic

T = TypeVar("T")


def read_state(path: Path, parse: Callable[[Any], T], default: T) -> T:
    """Give what `parse` makes of the JSON in a file; `default` where the file is absent, unreadable or damaged.

    `parse` may raise ValueError, KeyError, IndexError, TypeError and AttributeError for a value of another form.
    """
    try:
        return parse(json.loads(path.read_bytes()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return default


def write_state(path: Path, value: object, *, indent: int | None = None) -> None:
    """Replace a file by a value as JSON, mode 0600, durably and whole or not at all. Raises OSError, NoSpace."""
    write_atomic(path, json.dumps(value, indent=indent).encode("ascii") + b"\n")
