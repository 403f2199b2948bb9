"""The rows of tables, out of the server into files: psql streams them, two side by side, in one snapshot.

psql gives COPY's lines as they come, which is several times as fast as asking for each row. It prints a random word
after each table. The word counts only at the end of all that there is to read, so no row can be taken for it.

Takes a snapshot and tables; writes below a folder. A table is whole if it has as many rows as the server counts.
"""

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tklb.base.process import Conversation, open_conversation
from tklb.databases.dump_format import PIPE, ROWS, encode_file_name
from tklb.databases.postgresql import ENGINE, find_program
from tklb.databases.postgresql.catalogue import Table
from tklb.databases.postgresql.connection import (
    LOCK_NOT_AVAILABLE,
    ONLY_TABLES,
    OUT_OF_LOCKS,
    ServerConnection,
    ServerError,
    format_login,
)
from tklb.databases.report import DatabaseReport
from tklb.databases.row_files import RowWriter
from tklb.errors import ProgramFailed
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedTable

__all__ = ["dump_rows"]

WORKERS = 2
_SHORT_WAIT = "50ms"
_ANSWER_SECONDS = 60  # beyond the wait for a lock: only a psql that hangs is silent for so long


@dataclass(frozen=True, slots=True)
class RowSource:
    """Where rows come from and where they go. `connection` holds the snapshot; it counts the rows."""

    connection: ServerConnection
    snapshot: str
    folder: Path  # of the database in the dump
    progress: Progress


def dump_rows(
    source: RowSource, tables: Sequence[Table], between: Callable[[], None], report: DatabaseReport
) -> dict[str, SavedTable]:
    """Dump the rows of tables; return those that are whole, by oid.

    `between` is called when all tables are locked and no row is read yet: what it waits for cannot come before us. It
    may raise, which ends the dump. No other thread may be at work when this begins.
    """
    connection, label = source.connection, f"{ENGINE}:{source.connection.database}"
    total = sum(table.size for table in tables)
    copying = _Copying(source)
    try:
        copying.begin(tables)
        between()
        copying.start()
        counts = {}
        for table in tables:
            counts[table.oid] = copying.count(table)
            source.progress(label, copying.size, total)
        copying.wait(lambda: source.progress(label, copying.size, total))
    finally:
        copying.close()
    found = {table.oid: copying.check(table, counts[table.oid]) for table in tables}
    for table in tables:
        if isinstance(reason := found[table.oid], str):
            report.skip(connection.database, table.full_name, f"its rows were not dumped: {reason}")
    return {oid: saved for oid, saved in found.items() if isinstance(saved, SavedTable)}


class _Copying:
    """Two psql at work, each with a thread that reads it."""

    def __init__(self, source: RowSource) -> None:
        self._source = source
        self._written: dict[str, RowWriter] = {}  # by the table's oid
        self._failures: dict[str, str] = {}  # why a table's rows are not there
        self._fault: BaseException | None = None  # beyond a single table
        self._stack = ExitStack()
        self._streams: list[tuple[_PsqlStream, list[Table]]] = []
        self._threads: list[threading.Thread] = []

    @property
    def size(self) -> int:
        return sum(writer.size for writer in list(self._written.values()))

    def begin(self, tables: Sequence[Table]) -> None:
        """Open the sessions, in the snapshot, and lock the tables: nobody may come between later on."""
        shares: list[list[Table]] = [[] for _ in range(WORKERS)]
        for table in sorted(tables, key=lambda table: -table.size):
            min(shares, key=lambda share: sum(one.size + 8192 for one in share)).append(table)
        for share in filter(None, shares):
            self._streams.append((self._open(), share))
        for stream, share in self._streams:
            for table in share:
                self._lock(stream, table)

    def _open(self) -> "_PsqlStream":
        connection = self._source.connection
        login, major = connection.login, connection.version // 10000
        words = format_login(login, connection.database, major)
        command = [find_program("psql", major), "-X", "-q", "-A", "-t", "--no-password", f"--dbname={words}"]
        conversation = self._stack.enter_context(open_conversation(command, user=login.account))
        stream = _PsqlStream(conversation, login.lock_seconds)
        stream.run(f"SET client_encoding = '{connection.copy_encoding}'")
        stream.run("SET work_mem = '64MB'")
        stream.run(ONLY_TABLES)
        stream.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        stream.run(f"SET TRANSACTION SNAPSHOT '{self._source.snapshot}'")
        stream.survive_errors()
        return stream

    def _lock(self, stream: "_PsqlStream", table: Table) -> None:
        if table.schema == "pg_catalog":
            return
        try:
            stream.run(f"LOCK TABLE ONLY {table.sql} IN ACCESS SHARE MODE")
        except ServerError as exc:
            if exc.state != OUT_OF_LOCKS:
                self._failures[table.oid] = str(exc)
            if exc.state == LOCK_NOT_AVAILABLE:
                self._shorten_waits()

    def _shorten_waits(self) -> None:
        """Wait but a moment: somebody may have each of the tables locked."""
        for stream, _ in self._streams:
            stream.run(f"SET lock_timeout = '{_SHORT_WAIT}'")

    def start(self) -> None:
        for stream, share in self._streams:
            self._threads.append(threading.Thread(target=self._copy, args=(stream, share), daemon=True))
            self._threads[-1].start()

    def count(self, table: Table) -> int:
        connection = self._source.connection
        connection.run("SAVEPOINT a_count")
        try:
            return int(connection.fetch_value(table.count()) or 0)
        except ServerError as exc:
            connection.run("ROLLBACK TO SAVEPOINT a_count")
            self._failures.setdefault(table.oid, f"its rows cannot be counted: {exc}")
            return -1

    def wait(self, watch: Callable[[], None]) -> None:
        """Wait until all is copied; `watch` is called now and then. Raises a failure beyond a single table."""
        for thread in self._threads:
            while thread.is_alive():
                thread.join(0.5)
                watch()
        if self._fault:
            raise self._fault

    def close(self) -> None:
        """End the programs, and with them the threads."""
        self._stack.close()
        for thread in self._threads:
            thread.join()

    def check(self, table: Table, count: int) -> SavedTable | str:
        """The table with its rows, if they are as many as the server counts; else they are removed: the reason."""
        writer = self._written.get(table.oid)
        reason = self._failures.get(table.oid)
        rows, files = (writer.rows, writer.files) if writer else (0, [])
        if reason is None and rows == count:
            return SavedTable(table.full_name, rows, tuple(f"{ROWS}/{name}" for name in files))
        for name in files:
            (self._source.folder / ROWS / name).unlink()
        return reason or f"{rows} rows came, the server counts {count}"

    def _copy(self, stream: "_PsqlStream", share: list[Table]) -> None:
        try:
            for table in share:
                self._copy_table(stream, table)
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            self._fault = exc

    def _copy_table(self, stream: "_PsqlStream", table: Table) -> None:
        if table.oid in self._failures:
            return
        with RowWriter(self._source.folder / ROWS, encode_file_name(table.full_name)) as writer:
            self._written[table.oid] = writer
            try:
                for block in stream.stream_rows(table.copy_out(self._source.connection.encoding)):
                    writer.write(block)
            except (ServerError, ProgramFailed) as exc:
                self._failures[table.oid] = str(exc)


class _PsqlStream:
    """A psql that gets statements and whose answers are read to their end."""

    def __init__(self, conversation: Conversation, lock_seconds: int) -> None:
        self._conversation = conversation
        self._patience = lock_seconds + _ANSWER_SECONDS
        self._mark = secrets.token_hex(16).encode()

    def survive_errors(self) -> None:
        """From now on a statement that fails does not end the transaction that it is in."""
        self._conversation.say(b"\\set ON_ERROR_ROLLBACK on\n")

    def run(self, statement: str) -> None:
        """Run a statement that gives nothing. Raises ServerError, also where no answer comes."""
        for _ in self.stream_rows(statement, self._patience):
            pass

    def stream_rows(self, statement: str, seconds: float | None = None) -> Iterator[bytes]:
        """Run a statement; its lines in blocks. Raises ServerError where it failed, after all that it gave.

        `seconds` is how long it may be silent.
        """
        text = statement.encode("utf-8", "surrogateescape")
        self._conversation.say(text + b";\n\\echo " + self._mark + b" :ERROR :SQLSTATE\n")
        parts: list[bytes] = []  # of a line whose end is still to come
        while True:
            block = self._hear(seconds)
            cut = block.rfind(b"\n") + 1
            if not cut:
                parts.append(block)
                continue
            whole = b"".join((*parts, block[:cut]))
            parts = [block[cut:]] if cut < len(block) else []
            last = whole.rfind(b"\n", 0, len(whole) - 1) + 1
            if whole.startswith(self._mark, last):
                yield whole[:last]
                return self._check_end(whole[last:].split())
            yield whole

    def _check_end(self, words: list[bytes]) -> None:
        if words[1:] != [b"false", b"00000"]:
            raise ServerError(self._conversation.last_errors().rpartition("ERROR: ")[2].strip(), words[-1].decode())

    def _hear(self, seconds: float | None) -> bytes:
        try:
            block = self._conversation.hear(PIPE, seconds)
        except ProgramFailed as exc:
            raise ServerError(str(exc)) from exc
        if not block:
            raise ServerError(f"psql ended: {self._conversation.last_errors() or 'it gave no reason'}")
        return block
