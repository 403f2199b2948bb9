"""A consistent snapshot: the dump program's transaction and our own begin while no commit can come between.

Takes a login and the dump program's command; gives a connection and the running program that see the same rows. Holds
up commits for some tens of milliseconds (BACKUP STAGE, https://mariadb.com/kb/en/backup-stage/); changes nothing.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence

from tklb.base.process import Conversation, open_conversation
from tklb.databases.mariadb import Login
from tklb.databases.mariadb.connection import ServerConnection, ServerError, ServerFullError, open_connection
from tklb.lazy_dataclass import dataclass

__all__ = ["ConsistentSnapshot", "open_consistent_snapshot"]

_STAGES = ("START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT")
_PATIENCE = 3.0  # seconds that commits may be held up at the very most


@dataclass(frozen=True, slots=True)
class ConsistentSnapshot:
    """`reader` is in a transaction that sees what `program` sees, where `is_exact`.

    `program_id` is the number of the program's session, 0 if not known. Without a command there is no program.
    """

    reader: ServerConnection
    program: Conversation | None
    program_id: int
    is_exact: bool


@contextlib.contextmanager
def open_consistent_snapshot(
    login: Login, control: ServerConnection, command: Sequence[str | bytes]
) -> Iterator[ConsistentSnapshot]:
    """Start the program and a connection of our own at the same moment. Raises ServerError, ProgramMissing.

    `control` is the connection that holds up commits; it is free again when the block begins. Where the server lets no
    other session in, it is the reader, and there is no program.
    """
    try:
        reader = open_connection(login)
    except ServerFullError:
        control.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        yield ConsistentSnapshot(control, None, 0, True)
        control.run("ROLLBACK")
        return
    with reader:
        reader.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        known = _list_sessions(control)
        is_held = _hold_commits(control, login.lock_seconds)
        with contextlib.ExitStack() as held:
            held.callback(_release_commits, control, is_held=is_held)
            reader.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            if not command:
                held.close()
                yield ConsistentSnapshot(reader, None, 0, True)
                return
            with open_conversation(command, environment=login.environment) as program:
                number = _wait_for_session(control, known | {reader.id}, program)
                held.close()
                # one that has ended saw nothing that was committed after us
                yield ConsistentSnapshot(reader, program, number, is_held and (number > 0 or not program.is_running))


def _hold_commits(control: ServerConnection, lock_seconds: int) -> bool:
    control.wait_for_locks(min(5, lock_seconds))
    try:
        for stage in _STAGES:
            control.run(f"BACKUP STAGE {stage}")
    except ServerError:
        _release_commits(control, is_held=True)
        return False
    finally:
        control.wait_for_locks(lock_seconds)
    return True


def _release_commits(control: ServerConnection, *, is_held: bool) -> None:
    if is_held:
        with contextlib.suppress(ServerError):
            control.run("BACKUP STAGE END")


def _wait_for_session(control: ServerConnection, known: set[int], program: Conversation) -> int:
    """The number of the new session that uses a database: its transaction has begun. 0 where none is seen.

    The dump of a small server fits into the pipe, and its program has ended before it is seen. INNODB_TRX would tell
    sooner, yet the server renews it only for those who have not asked for a tenth of a second.
    """
    until = time.monotonic() + _PATIENCE
    query = (
        "SELECT ID FROM information_schema.PROCESSLIST WHERE DB IS NOT NULL AND USER = SUBSTRING_INDEX(USER(), '@', 1)"
    )
    while time.monotonic() < until and program.is_running:
        fresh = {int(number) for (number,) in control.fetch_texts(query)} - known
        if fresh:
            return max(fresh)
        time.sleep(0.003)
    return 0


def _list_sessions(control: ServerConnection) -> set[int]:
    return {int(number) for (number,) in control.fetch_texts("SELECT ID FROM information_schema.PROCESSLIST")}
