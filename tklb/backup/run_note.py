"""How the last backup ended, noted for `tklb status`."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tklb.base.fs import write_atomic
from tklb.config.paths import Paths
from tklb.errors import InternalError, Interrupted, NoSpace, TklbError


@dataclass(frozen=True, slots=True)
class RunNote:
    """How the last backup ended. `time` is when it began, `status` its exit status."""

    time: datetime
    status: int
    error: str = ""


def note_run(paths: Paths, note: RunNote) -> None:
    """Note how a backup ended, durably."""
    fields = {"time": note.time.isoformat(), "status": note.status, "error": note.error}
    write_atomic(paths.last_run, json.dumps(fields).encode())


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
    try:
        fields = json.loads(paths.last_run.read_bytes())
        return RunNote(datetime.fromisoformat(fields["time"]), int(fields["status"]), str(fields["error"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
