"""Load rows of a dump into tables, over libpq: one thread a connection, each table counted by the server.

Takes connections and files; changes the database of the connections.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tklb.databases.dump_format import DumpFolder
from tklb.databases.postgresql.catalogue import LARGE_OBJECTS, Table
from tklb.databases.postgresql.connection import ServerConnection, ServerError, quote_name, quote_text
from tklb.databases.postgresql.definitions import retry_with_path
from tklb.errors import DatabaseFailed
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedTable

__all__ = ["load_rows"]

Job = tuple[Table, SavedTable]
ReadBlocks = Callable[[Sequence[str]], Iterator[bytes]]
# the pages of large objects wait here until all are there
MAKE_PAGES = "CREATE TEMPORARY TABLE tklb_pages (loid oid, pageno bigint, data bytea)"
PUT_PAGES = "SELECT pg_catalog.lo_put(loid, pageno * {size}, data) FROM tklb_pages ORDER BY loid, pageno"


@dataclass(frozen=True, slots=True)
class RowTarget:
    """Where rows go. `item` is the database in reports, `path` the search path of those who use it."""

    connections: tuple[ServerConnection, ...]
    dump: DumpFolder
    item: str
    encoding: str
    path: str


def load_rows(target: RowTarget, tables: Sequence[Job], progress: Progress) -> None:
    """Load the rows of all tables. Raises DatabaseFailed; an interruption ends all connections' work first."""
    _RowLoad(target, tables, progress).run()


def load_table(connection: ServerConnection, target: RowTarget, job: Job, read: ReadBlocks | None = None) -> None:
    """Add the rows of one table. `read` gives the blocks of its files, twice where need be. Raises DatabaseFailed."""
    table, saved = job
    read = read or target.dump.blocks
    statement = format_copy(table, target.encoding)
    try:
        count = retry_with_path(
            connection, table.schema, target.path, lambda: connection.copy_in(statement, read(saved.files))
        )
    except ServerError as exc:
        raise DatabaseFailed(item=target.item, reason=f"rows of {saved.name}: {exc}") from exc
    if count != saved.rows:
        reason = f"rows of {saved.name}: the server took {count}, the dump has {saved.rows}"
        raise DatabaseFailed(item=target.item, reason=reason)


def format_copy(table: Table, encoding: str) -> str:
    """The COPY that takes what Table.copy_out gave; large objects' pages wait aside, see put_pages."""
    columns = ", ".join(quote_name(column.name) for column in table.columns)
    target = "pg_temp.tklb_pages" if table.full_name == LARGE_OBJECTS else table.sql
    return f"COPY {target}{f' ({columns})' if columns else ''} FROM STDIN WITH (ENCODING {quote_text(encoding)})"


def put_pages(connection: ServerConnection, page_size: int) -> None:
    """Fill the large objects from the pages that wait in this connection."""
    connection.run(PUT_PAGES.format(size=page_size))
    connection.run("DROP TABLE pg_temp.tklb_pages")


class _RowLoad:
    """One load of rows by all connections; the first failure ends it."""

    def __init__(self, target: RowTarget, tables: Sequence[Job], progress: Progress) -> None:
        self._target, self._progress = target, progress
        self._left = list(tables)
        self._size = sum(target.dump.path(name).stat().st_size for _, saved in tables for name in saved.files)
        self._done = 0
        self._lock = threading.Lock()
        self._fault: BaseException | None = None

    def run(self) -> None:
        connections = self._target.connections
        threads = [threading.Thread(target=self._work, args=(each,), daemon=True) for each in connections]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                self._wait(thread)
        except BaseException:
            self._end(threads)
            raise
        if self._fault:
            raise self._fault

    def _wait(self, thread: threading.Thread) -> None:
        while thread.is_alive():
            thread.join(0.2)
            self._progress(self._target.item, self._done, self._size)

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        self._left.clear()
        self._fault = DatabaseFailed(item=self._target.item, reason="given up")
        while any(thread.is_alive() for thread in threads):
            for connection in self._target.connections:
                connection.cancel()
            for thread in threads:
                thread.join(0.2)

    def _work(self, connection: ServerConnection) -> None:
        try:
            while not self._fault and (job := self._take_job()):
                load_table(connection, self._target, job, self._read)
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            self._fault = self._fault or exc

    def _take_job(self) -> Job | None:
        with self._lock:
            return self._left.pop(0) if self._left else None

    def _read(self, files: Sequence[str]) -> Iterator[bytes]:
        for block in self._target.dump.blocks(files):
            if self._fault:
                raise self._fault
            yield block
            with self._lock:
                self._done += len(block)
