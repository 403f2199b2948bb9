"""The rows of tables: from the dump program where it is exact, else from a connection of our own.

The program prints six digits of a FLOAT, and two tables whose names hold dots can look the same in its options. We read
those tables ourselves, in the very form that the program gives.

Takes tables and a folder; writes the rows below it. A table is whole if it has as many rows as the server counts in the
same consistent snapshot. Reads only.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tklb.databases.dump_format import PIPE, ROWS, encode_file_name, encode_folder_name
from tklb.databases.mariadb import Login
from tklb.databases.mariadb.catalogue import Table, count_rows
from tklb.databases.mariadb.connection import ServerConnection, ServerError, decode, quote_name
from tklb.databases.mariadb.dump.consistent_snapshot import ConsistentSnapshot, open_consistent_snapshot
from tklb.databases.mariadb.dump.split_output import Splitter, Writer
from tklb.databases.report import DatabaseReport
from tklb.databases.row_files import RowWriter
from tklb.errors import ProgramFailed, printable
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Progress

__all__ = ["dump_rows"]

OPTIONS = (
    *("--skip-opt", "--single-transaction", "--quick", "--force", "--tz-utc", "--comments", "--extended-insert"),
    *("--no-create-info", "--no-create-db", "--complete-insert", "--hex-blob", "--order-by-primary", "--skip-triggers"),
    *("--skip-dump-date", "--set-charset", "--default-character-set=utf8mb4", "--skip-routines", "--skip-events"),
    *("--max-allowed-packet=1G", "--net-buffer-length=1M"),
)
# without output, after which we look for a lock that the program waits for; after a long wait each may be locked
_SECONDS, _SHORT_LOOK = 1.0, 0.05
_LINES, _BLOCK = 500, 1 << 20  # of a block that we read ourselves


class TableRows:
    """The rows of one table, as far as they came."""

    def __init__(self, table: Table, folder: Path) -> None:
        self.table = table
        self.writer = RowWriter(folder / ROWS, encode_file_name(table.name))
        self.least: int | None = None  # the fewest and the most rows that it may have had
        self.most = 0
        self.generated = ""  # the digest of the generated values that are stored
        self.is_foreign = False  # the program gave other columns than the server names
        self.reason = ""

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(f"{ROWS}/{name}" for name in self.writer.files)

    @property
    def is_whole(self) -> bool:
        return not self.reason and self.least is not None and self.least <= self.writer.rows <= self.most

    @property
    def is_missing(self) -> bool:
        return not self.reason and bool(self.least) and not self.writer.rows

    def count(self, connection: ServerConnection) -> None:
        number, self.generated = count_rows(connection, self.table)
        self.least = number if self.least is None else min(number, self.least)
        self.most = max(number, self.most)

    def explain(self) -> str:
        return self.reason or f"{self.writer.rows} rows came, the server counts {self.most}"


@dataclass(frozen=True, slots=True)
class RowSource:
    """Where rows come from and where they go. `program` is the dump program, empty where there is none."""

    login: Login
    control: ServerConnection
    program: str
    folder: Path  # of the server in the dump
    progress: Progress


def dump_rows(
    source: RowSource, tables: Sequence[Table], ignored: Iterable[Table], report: DatabaseReport
) -> dict[Table, TableRows]:
    """Dump the rows of `tables`; `ignored` are all others in their databases. Raises ServerError."""
    dump = _RowDump(source, tables, report)
    dump.find_locked()
    dump.choose_readers(tuple(ignored))
    with open_consistent_snapshot(source.login, source.control, dump.command) as snapshot:
        dump.read(snapshot)
    dump.check(is_exact=snapshot.is_exact)
    return dump.rows


class _RowDump:
    """One dump of rows: the program's output is read in this thread, our own reads are in another."""

    def __init__(self, source: RowSource, tables: Sequence[Table], report: DatabaseReport) -> None:
        folder = source.folder
        self.rows = {table: TableRows(table, folder / encode_folder_name(table.database)) for table in tables}
        self.command: list[str] = []
        self._source, self._report = source, report
        self._own: set[Table] = set()  # those that we read ourselves
        self._by_name = {(table.database, table.name): each for table, each in self.rows.items()}
        self._current: TableRows | None = None
        self._size, self._done = sum(table.size for table in tables), 0
        self._is_stopped = self._is_finished = False
        self._lock_seconds, self._look = source.login.lock_seconds, _SECONDS  # none after a long wait

    def find_locked(self) -> None:
        """Find the tables that cannot be read. All waits for locks together take as long as is allowed for one."""
        control = self._source.control
        for table, rows in self.rows.items():
            try:
                control.fetch_rows(f"SELECT 1 FROM {table.sql} LIMIT 1")
            except ServerError as exc:
                rows.reason = f"it cannot be read: {exc}"
                control.wait_for_locks(0)
        control.wait_for_locks(self._source.login.lock_seconds)

    def choose_readers(self, others: Sequence[Table]) -> None:
        """Decide which tables the program reads, and its command."""
        tables = [table for table, rows in self.rows.items() if not rows.reason]
        words = Counter(f"{table.database}.{table.name}" for table in [*self.rows, *others])
        program, is_now = self._source.program, self._has_default_moment()
        self._own = {
            table
            for table in tables
            if not program
            or table.is_inexact
            or words[f"{table.database}.{table.name}"] > 1
            or (table.kind == "SYSTEM VERSIONED" and not is_now)
        }
        chosen = {table for table in tables if table not in self._own}
        databases = sorted({table.database for table in chosen})
        if not databases:
            return
        left_out = [table for table in [*self.rows, *others] if table not in chosen and table.database in databases]
        ignore = [f"--ignore-table={table.database}.{table.name}" for table in left_out]
        login = self._source.login.make_command(program)
        self.command = [*login, *OPTIONS, *ignore, "--databases", "--", *databases]

    def _has_default_moment(self) -> bool:
        """Whether the program gives the rows of now: a setting of the server can give those of the past."""
        try:
            return self._source.control.fetch_value("SELECT @@GLOBAL.system_versioning_asof") == "DEFAULT"
        except ServerError:
            return True  # it does not know the setting

    def read(self, snapshot: ConsistentSnapshot) -> None:
        with ThreadPoolExecutor(1) as pool:
            counting = pool.submit(self._count, snapshot.reader)
            try:
                self._listen(snapshot)
                counting.result()
            except BaseException:
                self._is_stopped = True
                with contextlib.suppress(ServerError):
                    self._source.control.run(f"KILL QUERY {snapshot.reader.id}")
                raise
        if self._is_finished:
            missing = [each for each in self.rows.values() if each.is_missing or each.is_foreign]
            for rows in missing:
                self._read_table(snapshot.reader, rows)

    def check(self, *, is_exact: bool) -> None:
        """Count again the tables that change while they are read; report those that are not whole."""
        loose = dict.fromkeys(self._list_loose())
        for table, rows in self.rows.items():
            if (table in loose or not is_exact) and not rows.reason:
                self._count_again(rows)
            if not rows.is_whole:
                self._report.skip(table.database, table.name, rows.explain())
            elif table.kind == "SYSTEM VERSIONED":
                self._report_history(table, rows.most)
        by_database = defaultdict(list)
        for table in loose:
            by_database[table.database].append(printable(table.name))
        for database, names in sorted(by_database.items()):
            which = f"{', '.join(names)} of {printable(database)}"
            self._report.note(f"no transaction protects these tables, they were read one by one: {which}")
        if not is_exact:
            self._report.note(
                "the server could not be held for a moment: rows were counted a little before or after they were read"
            )

    def _count_again(self, rows: TableRows) -> None:
        try:
            rows.count(self._source.control)
        except ServerError:  # the first count stays
            with contextlib.suppress(ServerError):
                self._source.control.wait_for_locks(0)

    def _list_loose(self) -> list[Table]:
        """The tables of storage engines without transactions."""
        query = "SELECT ENGINE FROM information_schema.ENGINES WHERE TRANSACTIONS = 'YES'"
        transactional = {name for (name,) in self._source.control.fetch_texts(query)}
        return [table for table in self.rows if table.engine not in transactional]

    def _report_history(self, table: Table, now: int) -> None:
        query = f"SELECT COUNT(*) FROM {table.sql} FOR SYSTEM_TIME ALL"
        with contextlib.suppress(ServerError):
            every = int(self._source.control.fetch_value(query))
            if every > now:
                reason = f"{every - now} rows of its history are not taken, all those of now are"
                self._report.skip(table.database, table.name, reason)

    # ---------------------------------------------------------------- in the other thread

    def _count(self, reader: ServerConnection) -> None:
        reader.run("SET NAMES utf8mb4")
        for rows in self.rows.values():
            if self._is_stopped:
                return
            if not rows.reason:
                self._visit(reader, rows, lambda each: each.count(reader))
            if rows.table in self._own:
                self._read_table(reader, rows)

    def _read_table(self, reader: ServerConnection, rows: TableRows) -> None:
        def write(each: TableRows) -> None:
            with each.writer as writer:
                for block in read_blocks(reader, each.table):
                    writer.write(block)
                    self._add_progress(len(block))

        self._visit(reader, rows, write)

    def _visit(self, reader: ServerConnection, rows: TableRows, act: Callable[[TableRows], None]) -> None:
        """Do something with a table and release it, so that nobody has to wait for us to change it."""
        try:
            reader.run("SAVEPOINT tklb")
            act(rows)
        except ServerError as exc:
            rows.reason = str(exc)
            with contextlib.suppress(ServerError):
                reader.wait_for_locks(0)  # somebody may have each table locked: one long wait is enough
        finally:
            with contextlib.suppress(ServerError):
                reader.run("ROLLBACK TO SAVEPOINT tklb")

    # ---------------------------------------------------------------- the program

    def _listen(self, snapshot: ConsistentSnapshot) -> None:
        program = snapshot.program
        if not program:
            self._is_finished = True
            return
        splitter = Splitter(self._find_writer)
        try:
            while block := self._hear(snapshot):
                splitter.feed(block)
            status = program.wait(60)
        finally:
            self._close()
        # one that could not begin, as where no session is left for it, leaves all tables to us
        self._is_finished = (splitter.is_finished and status >= 0) or not splitter.has_begun
        if status or not splitter.is_finished:
            message = printable(program.last_errors() or f"exit status {status}")
            end = "" if splitter.is_finished else ", and its end did not come"
            self._report.note(f"{program.program} reported: {message}{end}")

    def _hear(self, snapshot: ConsistentSnapshot) -> bytes:
        assert snapshot.program
        while True:
            try:
                return snapshot.program.hear(PIPE, self._look)
            except ProgramFailed:
                self._end_long_wait(snapshot)

    def _end_long_wait(self, snapshot: ConsistentSnapshot) -> None:
        """End the program's wait for a lock that lasts too long: it skips to the next table then.

        All these waits together take about as long as is allowed for one.
        """
        seconds, number = self._lock_seconds, snapshot.program_id
        whose = f"ID = {number}" if number else "INFO LIKE 'SELECT /*!40001 SQL_NO_CACHE */%'"
        waits = f"{whose} AND STATE LIKE 'Waiting for %' AND TIME >= {seconds}"
        control = self._source.control
        with contextlib.suppress(ServerError):
            for (each,) in control.fetch_texts(f"SELECT ID FROM information_schema.PROCESSLIST WHERE {waits}"):
                control.run(f"KILL QUERY {each}")
                self._lock_seconds, self._look = 0, _SHORT_LOOK

    def _find_writer(self, database: str, name: str, columns: tuple[str, ...]) -> Writer | None:
        rows = self._by_name.get((database, name))
        if rows is None or rows.reason or rows.table in self._own:
            return None
        if columns != tuple(column.name for column in rows.table.stored_columns):
            rows.is_foreign = True
            return None
        if rows is not self._current:
            self._close()
            self._current = rows
            rows.writer.open()
        return self._write

    def _write(self, block: bytes) -> None:
        assert self._current
        self._current.writer.write(block)
        self._add_progress(len(block))

    def _close(self) -> None:
        if self._current:
            self._current.writer.close()
        self._current = None

    def _add_progress(self, size: int) -> None:
        self._done += size
        self._source.progress("databases", self._done, max(self._size, self._done))


def list_key(reader: ServerConnection, table: Table) -> tuple[str, ...]:
    """The columns of the primary key, or of the first unique one: rows are in their order."""
    keys = [row for row in reader.fetch_rows(f"SHOW KEYS FROM {table.sql}") if row[1] == b"0"]
    return tuple(decode(row[4]) for row in keys if row[2] == keys[0][2])


def read_blocks(reader: ServerConnection, table: Table) -> Iterator[bytes]:
    """Read the rows ourselves, as blocks of lines, in the order of the primary key where there is one."""
    columns = table.stored_columns
    values = ", ".join(column.selection for column in columns) or "1"
    order = ", ".join(map(quote_name, list_key(reader, table)))
    ordered = f" ORDER BY {order}" if order else ""
    lines: list[bytes] = []
    size = 0
    for row in reader.stream_rows(f"SELECT {values} FROM {table.sql}{ordered}"):
        values_ = (column.format_value(value) for value, column in zip(row, columns, strict=False))
        lines.append(b",".join(values_) + b"\n")
        size += len(lines[-1])
        if len(lines) >= _LINES or size > _BLOCK:
            yield b"".join(lines)
            lines, size = [], 0
    yield b"".join(lines)
