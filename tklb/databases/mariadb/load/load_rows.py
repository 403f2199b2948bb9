"""Load rows into fresh tables: one statement a table, two tables side by side, counted afterwards.

Takes a dump and a database with the empty tables; touches that database. The server is given the name of no file: the
rows of this table go over the wire, whatever the server asks for.
"""

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tklb.databases.dump_format import DumpFolder
from tklb.databases.filter import spell_item
from tklb.databases.mariadb import ENGINE, Login
from tklb.databases.mariadb.connection import ServerConnection, ServerError, open_connection, quote_name
from tklb.databases.mariadb.definitions import RowFormat
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed, printable
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedTable

__all__ = ["load_rows"]

Job = tuple[SavedTable, RowFormat]
_SIDE_BY_SIDE = 2
_FORBIDDEN = frozenset({1148, 3948, 4166})  # LOAD DATA LOCAL is switched off
_FORM = (
    "CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\\'' ESCAPED BY '\\\\'"
    " LINES TERMINATED BY '\\n'"
)
_INSERT_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class RowTarget:
    """Where rows go. `scratch` is the database with the tables, `label` its final name, which reports use."""

    login: Login
    scratch: str
    label: str
    dump: DumpFolder


def load_rows(target: RowTarget, tables: Sequence[Job], progress: Progress, report: DatabaseReport) -> None:
    """Load the rows of all tables. Raises DatabaseFailed, which says the table; ServerError."""
    _RowLoad(target, progress, report).run(tables)


def format_load(file: str, table: str, row_format: RowFormat) -> str:
    """The statement that reads a file of lines into a table; `file` and `table` are quoted already."""
    names, values = [], []
    for number, column in enumerate(row_format.columns):
        if column in row_format.bytes:
            names.append(f"@v{number}")
            values.append(f"{quote_name(column)} = UNHEX(SUBSTR(@v{number}, 3))")
        elif column in row_format.numbers:
            names.append(f"@v{number}")
            values.append(f"{quote_name(column)} = CAST(@v{number} AS UNSIGNED)")
        else:
            names.append(quote_name(column))
    assignment = f" SET {', '.join(values)}" if values else ""
    return f"LOAD DATA LOCAL INFILE {file} INTO TABLE {table} {_FORM} ({', '.join(names)}){assignment}"


class _RowLoad:
    """One load of rows. Each worker has a connection; an interruption or the first failure ends all of them."""

    def __init__(self, target: RowTarget, progress: Progress, report: DatabaseReport) -> None:
        self._target, self._progress, self._report = target, progress, report
        self._waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._sessions: set[int] = set()
        self._is_stopped = False
        self._failure: BaseException | None = None  # the first one: those after it come of it
        self._lock = threading.Lock()
        self._done = self._size = 0

    def run(self, tables: Sequence[Job]) -> None:
        path = self._target.dump.path
        sizes = {table.name: sum(path(name).stat().st_size for name in table.files) for table, _ in tables}
        self._size = sum(sizes.values())
        for job in sorted(tables, key=lambda job: -sizes[job[0].name]):
            self._waiting.put(job)
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            workers = [pool.submit(self._work) for _ in range(min(_SIDE_BY_SIDE, len(tables)))]
            try:
                for worker in workers:
                    worker.result()
            except BaseException:
                self._stop()
                raise
        if self._failure:
            raise self._failure

    def _stop(self) -> None:
        self._is_stopped = True
        with suppress(ServerError), open_connection(self._target.login) as control:
            for number in tuple(self._sessions):
                with suppress(ServerError):
                    control.run(f"KILL {number}")

    def _work(self) -> None:
        try:
            with open_connection(self._target.login) as connection:
                self._sessions.add(connection.id)
                connection.run(f"USE {quote_name(self._target.scratch)}")
                while not self._is_stopped:
                    self._load_table(connection, *self._waiting.get_nowait())
        except queue.Empty:
            pass
        except BaseException as exc:  # noqa: BLE001 - it is raised where the workers are waited for
            with self._lock:
                self._failure = self._failure or exc
            self._is_stopped = True

    def _load_table(self, connection: ServerConnection, table: SavedTable, row_format: RowFormat) -> None:
        item = printable(spell_item(ENGINE, self._target.label, table.name))
        try:
            self._send(connection, table, row_format)
            there = int(connection.fetch_value(f"SELECT COUNT(*) FROM {quote_name(table.name)}"))
        except ServerError as exc:
            raise DatabaseFailed(item=item, reason=f"its rows cannot be loaded: {exc}") from exc
        if there != table.rows:
            raise DatabaseFailed(item=item, reason=f"{there} rows are there after loading {table.rows}")

    def _send(self, connection: ServerConnection, table: SavedTable, row_format: RowFormat) -> None:
        name = quote_name(table.name)
        blocks = self._watch(self._target.dump.blocks(table.files))
        if not row_format.columns:
            for _ in range(table.rows or 0):
                connection.run(f"INSERT INTO {name} () VALUES ()")
            return
        try:
            connection.feed(format_load("'rows'", name, row_format), blocks)
        except ServerError as exc:
            if exc.number not in _FORBIDDEN:
                raise
            for statement in _format_inserts(name, row_format, blocks):
                connection.run(statement)
            return
        self._report_changes(connection, table, row_format)

    def _report_changes(self, connection: ServerConnection, table: SavedTable, row_format: RowFormat) -> None:
        # A choice that was never a member is loaded as it was: as no member, with a warning.
        expected = tuple(f"Data truncated for column '{column}' " for column in row_format.choices)
        warnings = connection.fetch_texts("SHOW WARNINGS")
        unexpected = [row for row in warnings if row[0] != "Note" and not row[2].startswith(expected)]
        if unexpected:
            reason = f"the server changed values while loading: {unexpected[0][2]}"
            self._report.skip(self._target.label, table.name, reason)

    def _watch(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            if self._is_stopped:
                raise ServerError(0, "loading was stopped")
            with self._lock:
                self._done += len(block)
                self._progress("databases", self._done, self._size)
            yield block


def _format_inserts(name: str, row_format: RowFormat, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same rows as ordinary statements, where the server takes no LOAD DATA LOCAL."""
    columns = ", ".join(map(quote_name, row_format.columns))
    head = f"INSERT INTO {name} ({columns}) VALUES (".encode("utf-8", "surrogateescape")
    lines: list[bytes] = []
    size = 0
    for line in _split_lines(blocks):
        if lines and size + len(line) > _INSERT_SIZE:
            yield head + b"),(".join(lines) + b")"
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield head + b"),(".join(lines) + b")"


def _split_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    for block in blocks:
        first, *more = block.split(b"\n")
        rest.append(first)
        if more:
            yield b"".join(rest)
            yield from more[:-1]
            rest = [more[-1]]
