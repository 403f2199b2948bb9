"""The rows of tables, out of the server into files, in one snapshot: psql streams large ones, two side by side.

Every table is read by a plain COPY, as pg_dump does it: rows come as they lie, no plan is made, no sort needs room, and
no index is asked. An unchanged table lies as it did. RowWriter cuts it where its lines say so, so that a change touches
few files.

The connection that holds the snapshot has all tables locked. It reads by itself what is small, and whatever a psql
failed at: there may be no session for one, or somebody waits to lock the table, and whoever comes next waits behind. A
psql locks only the table that it reads: where each session had all of them locked, the server would run out of locks.

Takes a snapshot and tables; writes below a folder. A table is whole if it has as many rows as the server counts.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from tklb.base.concurrency import Background
from tklb.databases.dump_format import ROWS, encode_file_name
from tklb.databases.postgresql import ENGINE
from tklb.databases.postgresql.catalogue import Table
from tklb.databases.postgresql.connection import ServerConnection, ServerError
from tklb.databases.postgresql.dump.psql_stream import Blocks, PsqlStream, is_for_psql, open_psql
from tklb.databases.postgresql.session_settings import ONLY_TABLES
from tklb.databases.report import DatabaseReport
from tklb.databases.row_files import RowWriter
from tklb.errors import ProgramFailed, ProgramMissing
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedTable

__all__ = ["dump_rows"]

log = logging.getLogger(__name__)
WORKERS = 2
_SMALL = 2 << 20  # bytes of all tables together that are read faster than a psql starts
_SHORT_WAIT = "50ms"  # for a lock that the connection has anyway


@dataclass(frozen=True, slots=True)
class RowSource:
    """Where rows come from and where they go. `connection` holds the snapshot and the locks.

    `watch` is called now and then, while the connection is idle.
    """

    connection: ServerConnection
    snapshot: str
    folder: Path  # of the database in the dump
    progress: Progress
    watch: Callable[[], None]


def dump_rows(source: RowSource, tables: Sequence[Table], report: DatabaseReport) -> dict[str, SavedTable]:
    """Dump the rows of tables; return those that are whole, by oid. No other thread may change the process' ids."""
    copying = _Copying(source, sum(table.size for table in tables))
    large_first = sorted(tables, key=lambda table: -table.size)
    try:
        left = copying.run_side_by_side(large_first) if copying.total > _SMALL else large_first
        copying.copy_alone(left)
    finally:
        copying.close()
    for table in tables:
        if reason := copying.failures.get(table.oid):
            report.skip(source.connection.database, table.full_name, f"its rows were not dumped: {reason}")
    return copying.saved


class _Copying:
    """The tables that are whole, by oid, and why others are not."""

    def __init__(self, source: RowSource, total: int) -> None:
        self.total = total
        self.saved: dict[str, SavedTable] = {}
        self.failures: dict[str, str] = {}
        self._source = source
        self._done = 0  # bytes
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._threads: list[Background] = []
        self._is_over = False
        self._fault: BaseException | None = None  # beyond a single table

    def run_side_by_side(self, tables: Sequence[Table]) -> list[Table]:
        """Copy tables by psql, as many as the server has room for; give those that are still to be copied."""
        waiting: SimpleQueue[Table] = SimpleQueue()
        for table in tables:
            if is_for_psql(table.copy_out(self._source.connection.encoding)):
                waiting.put(table)
        for stream in list(self._open_streams(min(WORKERS, len(tables)))):
            self._threads.append(Background(partial(self._work_off, stream, waiting)))
        self._wait()
        return [table for table in tables if table.oid not in self.saved]

    def copy_alone(self, tables: Sequence[Table]) -> None:
        """Copy tables by the connection itself, which has them locked anyway; its verdict is final."""
        connection = self._source.connection
        connection.run("SAVEPOINT a_table")
        for table in tables:
            try:
                self._copy(table, connection.copy_out(table.copy_out(connection.encoding)))
            except ServerError as exc:
                self.failures[table.oid] = str(exc)
                connection.run("ROLLBACK TO SAVEPOINT a_table")
            self._report_progress()
        connection.run("ROLLBACK TO SAVEPOINT a_table; RELEASE SAVEPOINT a_table")

    def close(self) -> None:
        """End the programs, and with them the threads."""
        self._is_over = True
        self._stack.close()
        for thread in self._threads:
            while not thread.has_ended:
                thread.wait(1)

    def _open_streams(self, count: int) -> Iterator[PsqlStream]:
        """Sessions in the snapshot; fewer where the server has no room for them."""
        statements = (
            f"SET lock_timeout = '{_SHORT_WAIT}'",
            ONLY_TABLES,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            f"SET TRANSACTION SNAPSHOT '{self._source.snapshot}'",
        )
        for _ in range(count):
            try:
                yield self._stack.enter_context(open_psql(self._source.connection, *statements))
            except (ServerError, ProgramFailed, ProgramMissing) as exc:
                log.info("rows of %s: no further session: %s", self._source.connection.database, exc)
                return

    def _wait(self) -> None:
        while not all(thread.has_ended for thread in self._threads):
            for thread in self._threads:
                thread.wait(0.25)
            self._source.watch()
            self._report_progress()
        if self._fault:
            raise self._fault

    def _report_progress(self) -> None:
        label = f"{ENGINE}:{self._source.connection.database}"
        self._source.progress(label, self._done, max(self._done, self.total))

    def _work_off(self, stream: PsqlStream, waiting: SimpleQueue[Table]) -> None:
        """Copy tables by one psql, until it fails beyond a single one."""
        try:
            while not self._is_over:
                self._copy_beside(stream, waiting.get_nowait())
        except Empty:
            pass
        except (ServerError, ProgramFailed) as exc:
            log.info("rows of %s: a psql is given up: %s", self._source.connection.database, exc)
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            self._fault = exc

    def _copy_beside(self, stream: PsqlStream, table: Table) -> None:
        """Copy a table by a psql, if the server lets it. Raises ServerError, ProgramFailed where the psql is gone."""
        stream.run("SAVEPOINT a_table")
        try:
            self._copy(table, stream.copy_out(table.copy_out(self._source.connection.encoding)))
        except ServerError as exc:
            if not exc.state:
                raise
        stream.run("ROLLBACK TO SAVEPOINT a_table")  # which gives the lock back
        stream.run("RELEASE SAVEPOINT a_table")

    def _copy(self, table: Table, blocks: Blocks) -> None:
        """Write a table's rows. Raises ServerError, ProgramFailed where they are not whole; no file of it stays."""
        folder = self._source.folder / ROWS
        with RowWriter(folder, encode_file_name(table.full_name)) as writer:
            try:
                count = self._write(writer, blocks)
            except (ServerError, ProgramFailed):
                _remove(folder, writer.files)
                raise
        if writer.rows != count:
            _remove(folder, writer.files)
            raise ServerError(f"{writer.rows} rows came, the server counted {count}")
        files = tuple(f"{ROWS}/{name}" for name in writer.files)
        self.saved[table.oid] = SavedTable(table.full_name, writer.rows, files)

    def _write(self, writer: RowWriter, blocks: Blocks) -> int:
        """Write blocks as they come; the number of rows that comes at their end."""
        while True:
            try:
                block = next(blocks)
            except StopIteration as end:
                return int(end.value)
            writer.write(block)
            with self._lock:
                self._done += len(block)


def _remove(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).unlink()
