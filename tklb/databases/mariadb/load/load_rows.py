"""Load rows into fresh tables: one statement a table, two tables side by side, counted afterwards.

Takes a dump and a database with the empty tables; touches that database. The server is given the name of no file: the
rows of this table go over the wire, whatever the server asks for.
"""

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace

from tklb.databases.mariadb.connection import ServerConnection, ServerError, open_connection, quote_name
from tklb.databases.mariadb.definitions import RowFormat
from tklb.databases.mariadb.load.compare_rows import Job, LoadTarget, open_read_back
from tklb.databases.mariadb.load.generated_values import settle_generated
from tklb.databases.mariadb.load.server_watch import ServerWatch
from tklb.databases.read_back import ReadBack
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedTable

__all__ = ["load_rows"]

_SIDE_BY_SIDE = 2
_FORBIDDEN = frozenset({1148, 3948, 4166})  # LOAD DATA LOCAL is switched off
_FORM = (
    "CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\\'' ESCAPED BY '\\\\'"
    " LINES TERMINATED BY '\\n'"
)
_INSERT_SIZE = 1 << 20
_LOOK = 5.0  # seconds between two looks for a server that hangs
_PATIENCE = 300.0  # seconds in which a server that loads has to do something
_SLOWEST = 1_000_000  # bytes of one value that it takes in a second, with nothing to be seen
_ANSWER_SECONDS = 20


def load_rows(target: LoadTarget, tables: Sequence[Job], progress: Progress, report: DatabaseReport) -> None:
    """Load the rows of all tables, and compare them. Raises DatabaseFailed, which says the table; ServerError."""
    jobs = [(saved, _complete_format(target, saved, row_format)) for saved, row_format in tables]
    if not target.login.read_back:
        _RowLoad(target, progress, report, None).run(jobs)
        return
    with open_read_back(target) as read_back:
        _RowLoad(target, progress, report, read_back).run(jobs)
        read_back.finish()


def _complete_format(target: LoadTarget, saved: SavedTable, row_format: RowFormat) -> RowFormat:
    """The format with what the server knows of the table that it made."""
    if saved.name not in target.tables:
        raise target.fail(saved.name, "its definition makes another table")
    return replace(row_format, counter=target.tables[saved.name].counter)


def format_load(file: str, table: str, row_format: RowFormat) -> str:
    """The statement that reads a file of lines into a table; `file` and `table` are quoted already."""
    turned = dict.fromkeys(row_format.bytes, "UNHEX(SUBSTR({}, 3))")
    turned |= dict.fromkeys(row_format.numbers, "CAST({} AS UNSIGNED)")
    if turned and row_format.counter:
        # beside a SET, the server numbers a row of 0 anew in spite of NO_AUTO_VALUE_ON_ZERO, but not if it is set too
        turned[row_format.counter] = "{}"
    names, values = [], []
    for number, column in enumerate(row_format.columns):
        names.append(f"@v{number}" if column in turned else quote_name(column))
        if column in turned:
            values.append(f"{quote_name(column)} = {turned[column].format(f'@v{number}')}")
    assignment = f" SET {', '.join(values)}" if values else ""
    return f"LOAD DATA LOCAL INFILE {file} INTO TABLE {table} {_FORM} ({', '.join(names)}){assignment}"


class _RowLoad:
    """One load of rows. Each worker has a connection; an interruption or the first failure ends all of them."""

    def __init__(
        self, target: LoadTarget, progress: Progress, report: DatabaseReport, read_back: ReadBack[Job] | None
    ) -> None:
        self._target, self._progress, self._report, self._read_back = target, progress, report, read_back
        self._waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._sessions: dict[ServerConnection, SavedTable | None] = {}  # with the table that each loads
        self._is_stopped = False
        self._failure: BaseException | None = None  # the first one: those after it come of it
        self._lock = threading.Lock()
        self._done = self._size = 0
        self._tables: Sequence[Job] = ()

    def run(self, tables: Sequence[Job]) -> None:
        self._tables = tables
        path = self._target.dump.path
        sizes = {table.name: sum(path(name).stat().st_size for name in table.files) for table, _ in tables}
        self._size = sum(sizes.values())
        for job in sorted(tables, key=lambda job: -sizes[job[0].name]):
            self._waiting.put(job)
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            workers = [pool.submit(self._work) for _ in range(min(_SIDE_BY_SIDE, len(tables)))]
            try:
                self._wait(workers)
            except BaseException:
                self._stop()
                raise
        if self._failure:
            raise self._failure

    def _wait(self, workers: Sequence[Future[None]]) -> None:
        path = self._target.dump.path
        files = [path(name) for table, _ in self._tables for name in table.files]
        largest = max((file.stat().st_size for file in files), default=0)
        watch = ServerWatch(self._target.login, _PATIENCE + largest / _SLOWEST)
        while wait(workers, _LOOK).not_done:
            if not watch.is_hung(self._done):
                continue
            self._failure = self._failure or self._describe_hang(watch.patience)
            self._stop()
            for connection in tuple(self._sessions):
                connection.abort()
        for worker in workers:
            worker.result()

    def _describe_hang(self, seconds: float) -> DatabaseFailed:
        table = next((table for table in self._sessions.values() if table), SavedTable("rows"))
        where = _describe_longest(self._target.dump.blocks(table.files))
        reason = f"its rows cannot be loaded: the server has done nothing for {seconds:.0f} seconds; {where}"
        return self._target.fail(table.name, reason)

    def _stop(self) -> None:
        self._is_stopped = True
        with suppress(ServerError), open_connection(self._target.login, seconds=_ANSWER_SECONDS) as control:
            for connection in tuple(self._sessions):
                with suppress(ServerError):
                    control.run(f"KILL {connection.id}")

    def _work(self) -> None:
        try:
            with open_connection(self._target.login) as connection:
                self._sessions[connection] = None
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
        self._sessions[connection] = table
        try:
            self._send(connection, table, row_format)
            has_changes = self._report_changes(connection, table, row_format)
            if reason := settle_generated(connection, self._target.tables[table.name], row_format):
                self._report.skip(self._target.label, table.name, reason)
            if self._read_back and row_format.columns and not has_changes:
                self._read_back.add((table, row_format))
                return
            there = int(connection.fetch_value(f"SELECT COUNT(*) FROM {quote_name(table.name)}"))
        except ServerError as exc:
            where = f"; {_describe_longest(self._target.dump.blocks(table.files))}" if not exc.number else ""
            raise self._target.fail(table.name, f"its rows cannot be loaded: {exc}{where}") from exc
        if there != table.rows:
            raise self._target.fail(table.name, f"{there} rows are there after loading {table.rows}")

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
            for statement in _format_inserts(name, row_format, blocks, connection.read_packet_limit()):
                connection.run(statement)

    def _report_changes(self, connection: ServerConnection, table: SavedTable, row_format: RowFormat) -> bool:
        """Report a table whose values the server changed knowingly. Where it is silent, they are compared."""
        # A choice that was never a member is loaded as it was: as no member, with a warning.
        expected = tuple(f"Data truncated for column '{column}' " for column in row_format.choices)
        warnings = connection.fetch_texts("SHOW WARNINGS")
        unexpected = [row for row in warnings if row[0] != "Note" and not row[2].startswith(expected)]
        if unexpected:
            reason = f"the server changed values while loading: {unexpected[0][2]}"
            self._report.skip(self._target.label, table.name, reason)
        return bool(unexpected)

    def _watch(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            if self._is_stopped:
                raise ServerError(0, "loading was stopped")
            with self._lock:
                self._done += len(block)
                self._progress("databases", self._done, self._size)
            yield block


def _format_inserts(name: str, row_format: RowFormat, blocks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """The same rows as ordinary statements, where the server takes no LOAD DATA LOCAL. Raises ServerError."""
    columns = ", ".join(map(quote_name, row_format.columns))
    head = f"INSERT INTO {name} ({columns}) VALUES (".encode("utf-8", "surrogateescape")
    room = min(limit, _INSERT_SIZE + len(head)) - len(head)
    lines: list[bytes] = []
    size = 0
    for number, line in enumerate(_split_lines(blocks), start=1):
        if len(head) + len(line) > limit:
            raise ServerError(0, f"row {number} has {len(line)} bytes, the server takes {limit}: max_allowed_packet")
        if lines and size + len(line) > room:
            yield head + b"),(".join(lines) + b")"
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 3
    if lines:
        yield head + b"),(".join(lines) + b")"


def _describe_longest(blocks: Iterable[bytes]) -> str:
    """Name the longest row: it is the first suspect where a server gives no reason."""
    size, number = max((len(line), -number) for number, line in enumerate(_split_lines(blocks), start=1))
    return f"its longest row is number {-number}, with {size} bytes"


def _split_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    for block in blocks:
        first, *more = block.split(b"\n")
        rest.append(first)
        if more:
            yield b"".join(rest)
            yield from more[:-1]
            rest = [more[-1]]
