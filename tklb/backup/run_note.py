"""How the last backup ended, remembered for `tklb status`."""

import contextlib
import json
from dataclasses import dataclass
from datetime import datetime

from tklb.base.fs import write_atomic
from tklb.config.paths import Paths
from tklb.errors import InternalError, Interrupted, NoSpace, TklbError


@dataclass(frozen=True, slots=True)
class RunNote:
    """How the last backup run ended. `status` is its exit status."""

    time: datetime
    status: int
    error: str = ""


def note_run(paths: Paths, note: RunNote) -> None:
    """Remember how a backup run ended, for `tklb status`."""
    fields = {"time": note.time.isoformat(), "status": note.status, "error": note.error}
    write_atomic(paths.last_run, json.dumps(fields).encode())


def note_failure(paths: Paths, began: datetime, exc: BaseException) -> None:
    """Remember what ended a backup run. Where even that cannot be written, what ended it is told all the same."""
    told = Interrupted() if isinstance(exc, KeyboardInterrupt) else exc
    code = told.code if isinstance(told, TklbError) else InternalError.code
    with contextlib.suppress(OSError, NoSpace):
        note_run(paths, RunNote(began, code, str(told) or type(told).__name__))


def read_note(paths: Paths) -> RunNote | None:
    """How the last backup run ended; None before the first."""
    try:
        fields = json.loads(paths.last_run.read_bytes())
        return RunNote(datetime.fromisoformat(fields["time"]), int(fields["status"]), str(fields["error"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
