"""How the last backup ended, noted for `tklb status`."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tklb.base.json import read_state, write_state
from tklb.config.paths import Paths
from tklb.errors import InternalError, Interrupted, NoSpace, TklbError
from tklb.model.report import OutsideItem


@dataclass(frozen=True, slots=True)
class RunNote:
    """How the last backup ended. `time` is when it began, `status` its exit status."""

    time: datetime
    status: int
    error: str = ""
    outside: tuple[OutsideItem, ...] = ()  # what of the owner's was not taken


def note_run(paths: Paths, note: RunNote) -> None:
    """Note how a backup ended, durably."""
    fields = {
        "time": note.time.isoformat(),
        "status": note.status,
        "error": note.error,
        "outside": [_spell_item(item) for item in note.outside],
    }
    write_state(paths.last_run, fields)


@contextlib.contextmanager
def note_failure(paths: Paths, begin: datetime) -> Iterator[None]:
    """Note the failure of the block, if there is one, and raise it. A note that cannot be written changes nothing."""
    try:
        yield
    except BaseException as exc:
        failure = Interrupted() if isinstance(exc, KeyboardInterrupt) else exc
        code = failure.code if isinstance(failure, TklbError) else InternalError.code
        with contextlib.suppress(OSError, NoSpace):
            note_run(paths, RunNote(begin, code, str(failure) or type(failure).__name__))
        raise


def read_note(paths: Paths) -> RunNote | None:
    """Read how the last backup ended; None before the first."""
    return read_state(paths.last_run, _parse_note, None)


def _parse_note(fields: dict[str, Any]) -> RunNote:
    outside = tuple(map(_parse_item, fields.get("outside", ())))
    return RunNote(datetime.fromisoformat(fields["time"]), int(fields["status"]), str(fields["error"]), outside)


def _spell_item(item: OutsideItem) -> list[Any]:
    return [os.fsdecode(item.path), item.reason, os.fsdecode(item.owner), item.files, item.bytes, item.is_whole]


def _parse_item(fields: list[Any]) -> OutsideItem:
    path, reason, owner, files, size, is_whole = fields
    return OutsideItem(os.fsencode(path), str(reason), os.fsencode(owner), int(files), int(size), bool(is_whole))
