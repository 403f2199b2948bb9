"""Bring rows into fresh tables: one statement a table, two tables side by side, counted afterwards.

Takes a dump and a database with the empty tables; touches that database. The server is never told a file's name, and
what goes over the wire is this table's rows whatever the server asks for.
"""

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tklb.databases.dump_format import DumpFolder
from tklb.databases.filter import spell_item
from tklb.databases.mariadb.catalogue import ENGINE
from tklb.databases.mariadb.said import Notes
from tklb.databases.mariadb.session import Login, ServerError, Session, quoted
from tklb.databases.mariadb.stored import StoredTable
from tklb.errors import DatabaseFailed, printable
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedTable

_SIDE_BY_SIDE = 2
_FORBIDDEN = frozenset({1148, 3948, 4166})  # LOAD DATA LOCAL is switched off
_FORM = (
    "CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\\'' ESCAPED BY '\\\\'"
    " LINES TERMINATED BY '\\n'"
)
_INSERT_SIZE = 1 << 20


def load_statement(file: str, table: str, form: StoredTable) -> str:
    """The statement that reads a file of lines into a table; `file` and `table` are quoted already."""
    names, values = [], []
    for number, column in enumerate(form.columns):
        if column in form.bytes:
            names.append(f"@v{number}")
            values.append(f"{quoted(column)} = UNHEX(SUBSTR(@v{number}, 3))")
        elif column in form.numbers:
            names.append(f"@v{number}")
            values.append(f"{quoted(column)} = CAST(@v{number} AS UNSIGNED)")
        else:
            names.append(quoted(column))
    setting = f" SET {', '.join(values)}" if values else ""
    return f"LOAD DATA LOCAL INFILE {file} INTO TABLE {table} {_FORM} ({', '.join(names)}){setting}"


class Filling:
    """Fill the tables of `scratch`; `named` is the database's name in what is said."""

    def __init__(
        self, login: Login, scratch: str, named: str, dump: DumpFolder, said: Notes, progress: Progress
    ) -> None:
        self._login, self._scratch, self._named = login, scratch, named
        self._dump, self._said, self._progress = dump, said, progress
        self._waiting: queue.SimpleQueue[tuple[SavedTable, StoredTable]] = queue.SimpleQueue()
        self._sessions: set[int] = set()
        self._is_stopped = False
        self._failure: BaseException | None = None  # the first one: what comes after it comes of it
        self._lock = threading.Lock()
        self._done = self._size = 0

    def fill(self, tables: Sequence[tuple[SavedTable, StoredTable]]) -> None:
        """Raises DatabaseFailed, naming the table; ServerError."""
        sizes = {table.name: sum(self._dump.path(name).stat().st_size for name in table.files) for table, _ in tables}
        self._size = sum(sizes.values())
        for table in sorted(tables, key=lambda pair: -sizes[pair[0].name]):
            self._waiting.put(table)
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
        with suppress(ServerError), self._login.open() as control:
            for number in tuple(self._sessions):
                with suppress(ServerError):
                    control.run(f"KILL {number}")

    def _work(self) -> None:
        try:
            with self._login.open() as session:
                self._sessions.add(session.id)
                session.run(f"USE {quoted(self._scratch)}")
                while not self._is_stopped:
                    self._fill(session, *self._waiting.get_nowait())
        except queue.Empty:
            pass
        except BaseException as exc:  # noqa: BLE001 - it is raised where the workers are waited for
            with self._lock:
                self._failure = self._failure or exc
            self._is_stopped = True

    def _fill(self, session: Session, table: SavedTable, form: StoredTable) -> None:
        item = printable(spell_item(ENGINE, self._named, table.name))
        try:
            self._bring(session, table, form)
            there = int(session.value(f"SELECT COUNT(*) FROM {quoted(table.name)}"))
        except ServerError as exc:
            raise DatabaseFailed(item=item, reason=f"its rows cannot be loaded: {exc}") from exc
        if there != table.rows:
            raise DatabaseFailed(item=item, reason=f"{there} rows are there after loading {table.rows}")

    def _bring(self, session: Session, table: SavedTable, form: StoredTable) -> None:
        name = quoted(table.name)
        blocks = self._told(self._dump.blocks(table.files))
        if not form.columns:
            for _ in range(table.rows or 0):
                session.run(f"INSERT INTO {name} () VALUES ()")
            return
        try:
            session.feed(load_statement("'rows'", name, form), blocks)
        except ServerError as exc:
            if exc.number not in _FORBIDDEN:
                raise
            for statement in _inserts(name, form, blocks):
                session.run(statement)
            return
        # A choice that was never a member is loaded as it was: as no member, with a warning.
        expected = tuple(f"Data truncated for column '{column}' " for column in form.choices)
        warnings = session.names("SHOW WARNINGS")
        warned = [row for row in warnings if row[0] != "Note" and not row[2].startswith(expected)]
        if warned:
            self._said.skip(self._named, table.name, f"the server changed values while loading: {warned[0][2]}")

    def _told(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            if self._is_stopped:
                raise ServerError(0, "loading was stopped")
            with self._lock:
                self._done += len(block)
                self._progress("databases", self._done, self._size)
            yield block


def _inserts(name: str, form: StoredTable, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same rows as ordinary statements, where the server takes no LOAD DATA LOCAL."""
    head = f"INSERT INTO {name} ({', '.join(map(quoted, form.columns))}) VALUES (".encode("utf-8", "surrogateescape")
    lines: list[bytes] = []
    size = 0
    for line in _lines(blocks):
        if lines and size + len(line) > _INSERT_SIZE:
            yield head + b"),(".join(lines) + b")"
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield head + b"),(".join(lines) + b")"


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    for block in blocks:
        first, *more = block.split(b"\n")
        rest.append(first)
        if more:
            yield b"".join(rest)
            yield from more[:-1]
            rest = [more[-1]]
