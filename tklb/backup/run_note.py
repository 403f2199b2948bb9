"""How the last backup ended, noted for `tklb status`."""

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tklb.base.json import read_state, write_state
from tklb.config.paths import Paths
from tklb.errors import Locked, NoSpace, NotInitialised, OutputFailed, UsageWrong, classify_failure
from tklb.lazy_dataclass import dataclass
from tklb.model.report import OutsideItem

_NO_FAILURES = (Locked, NotInitialised, OutputFailed, UsageWrong)


@dataclass(frozen=True, slots=True)
class RunNote:
    """How the last backup ended. `time` is when it began, `status` its exit status."""

    time: datetime
    status: int
    error: str = ""
    outside: tuple[OutsideItem, ...] = ()  # what of the owner's was not taken


def note_run(paths: Paths, note: RunNote) -> None:
    """Note how a backup ended, durably. Where the state cannot be written, the note goes to another place.

    Raises OSError, NoSpace where no place can be written.
    """
    fields = {
        "time": note.time.isoformat(),
        "status": note.status,
        "error": note.error,
        "outside": [_spell_item(item) for item in note.outside],
    }
    first, *others = paths.last_run_places
    try:
        write_state(first, fields)
    except (OSError, NoSpace):
        if not any(_is_written(place, fields) for place in others):
            raise


def _is_written(place: Path, fields: dict[str, Any]) -> bool:
    with contextlib.suppress(OSError, NoSpace):
        write_state(place, fields)
        return True
    return False


@contextlib.contextmanager
def note_failure(paths: Paths, begin: datetime) -> Iterator[None]:
    """Note the failure of the block, if there is one, and raise it. A note that cannot be written changes nothing.

    A failure that says nothing about backups is not noted: another run holds the lock, or only the report was lost.
    """
    try:
        yield
    except _NO_FAILURES:
        raise
    except BaseException as exc:
        failure = classify_failure(exc)
        with contextlib.suppress(OSError, NoSpace):
            note_run(paths, RunNote(begin, failure.code, str(failure)))
        raise


def read_note(paths: Paths) -> RunNote | None:
    """Read how the last backup ended; None before the first."""
    notes = (read_state(place, _parse_note, None) for place in paths.last_run_places)
    return max(filter(None, notes), key=lambda note: note.time, default=None)


def _parse_note(fields: dict[str, Any]) -> RunNote:
    outside = tuple(map(_parse_item, fields.get("outside", ())))
    return RunNote(datetime.fromisoformat(fields["time"]), int(fields["status"]), str(fields["error"]), outside)


def _spell_item(item: OutsideItem) -> list[Any]:
    return [os.fsdecode(item.path), item.reason, os.fsdecode(item.owner), item.files, item.bytes, item.is_whole]


def _parse_item(fields: list[Any]) -> OutsideItem:
    path, reason, owner, files, size, is_whole = fields
    return OutsideItem(os.fsencode(path), str(reason), os.fsencode(owner), int(files), int(size), bool(is_whole))
