"""Definitions and rows of a dump into a database, over libpq: no client program ever reads them.

Takes sessions and files; changes the sessions' database. What the server refuses is a DatabaseFailed that names the
object; in a dump that is known to lack definitions, what hangs on these is a Skipped.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tklb.databases.dump_format import DumpFolder
from tklb.databases.postgresql.byhand import PAGES, PUT_PAGES
from tklb.databases.postgresql.catalogue import LARGE_OBJECTS, Table
from tklb.databases.postgresql.script import Statement, statements
from tklb.databases.postgresql.session import Refused, Session, ident, literal
from tklb.errors import DatabaseFailed
from tklb.model.databases import SavedTable
from tklb.model.report import Skipped

Result = TypeVar("Result")
_TOGETHER = 50  # statements sent at once: one transaction, so that not all its locks are held to the end
_UNDEFINED = ("42P01", "42703", "42883", "42704", "3F000")  # table, column, function, object, schema
_NO_SCHEMA_SAID = ("42P01", "42883", "42704")
_REFRESH = "MATERIALIZED VIEW DATA "


@dataclass(slots=True)
class Feeder:
    """Runs scripts in one database. `item` is the database as reports name it.

    A materialized view that cannot be filled (what it looks at is on another server, say) does not hold up the rest.
    """

    session: Session
    item: str
    path: str
    is_tolerant: bool = False
    skipped: list[Skipped] = field(default_factory=list)

    def run(self, script: bytes) -> None:
        batch: list[Statement] = []
        for statement in statements(script):
            if not statement.is_definition:
                reason = f"{statement.about}: its dump holds {statement.verb or 'no'} statement, which defines nothing"
                raise DatabaseFailed(item=self.item, reason=reason)
            batch.append(statement)
            if len(batch) == _TOGETHER:
                self._run(batch)
                batch = []
        self._run(batch)

    def _run(self, batch: Sequence[Statement]) -> None:
        try:
            self.session.tell(b"".join(statement.text for statement in batch))
        except Refused:
            # all of them are undone: one by one, the one that fails is seen
            for statement in batch:
                self._run_one(statement)

    def _run_one(self, statement: Statement) -> None:
        try:
            retried(self.session, statement.schema, self.path, lambda: self.session.tell(statement.text))
        except Refused as exc:
            reason = f"{statement.about}: {exc}"
            if not (self.is_tolerant and exc.state in _UNDEFINED) and not statement.about.startswith(_REFRESH):
                raise DatabaseFailed(item=self.item, reason=reason) from exc
            self.skipped.append(Skipped(self.item.encode("utf-8", "surrogateescape"), reason))


def retried(session: Session, schema: str, path: str, step: Callable[[], Result]) -> Result:
    """Do a step; once more with a search path where a function of its own names things without their schema.

    Definitions say all schemas, but what a check or an index calls may not, and relies on the path of those who use
    the database: first the schema that the object is in, then `path`. pg_dump's own advice stops at an error.
    """
    try:
        return step()
    except Refused as exc:
        if exc.state not in _NO_SCHEMA_SAID or not schema or not session.is_idle:
            raise
        first = exc
    session.tell(f"SET search_path TO {literal(schema)}, {path}")
    try:
        return step()
    except Refused:
        raise first from None
    finally:
        session.tell("SET search_path TO ''")


@dataclass(slots=True)
class RowFeeder:
    """Copies rows of tables by one thread for each session. `watch` is told now and then how many bytes went."""

    dump: DumpFolder
    item: str
    encoding: str
    path: str
    watch: Callable[[int], None]
    moved: int = 0
    _left: list[tuple[Table, SavedTable]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _fault: BaseException | None = None

    def feed(self, sessions: Sequence[Session], tables: Sequence[tuple[Table, SavedTable]]) -> None:
        """Returns when all rows are in. Raises DatabaseFailed; an interruption ends all sessions' work first."""
        self._left = list(tables)
        threads = [threading.Thread(target=self._work, args=(session,), daemon=True) for session in sessions]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
                    self.watch(self.moved)
        except BaseException:
            self._end(sessions, threads)
            raise
        if self._fault:
            raise self._fault

    def _end(self, sessions: Sequence[Session], threads: Sequence[threading.Thread]) -> None:
        self._left.clear()
        self._fault = DatabaseFailed(item=self.item, reason="given up")
        while any(thread.is_alive() for thread in threads):
            for session in sessions:
                session.cancel()
            for thread in threads:
                thread.join(0.2)

    def _work(self, session: Session) -> None:
        try:
            while not self._fault and (job := self._next()):
                self.feed_one(session, *job)
        except BaseException as exc:  # noqa: BLE001 - raised again by who waits
            self._fault = self._fault or exc

    def _next(self) -> tuple[Table, SavedTable] | None:
        with self._lock:
            return self._left.pop(0) if self._left else None

    def feed_one(self, session: Session, table: Table, saved: SavedTable) -> None:
        """Add the rows of one table. Raises DatabaseFailed."""
        try:
            statement = copy_into(table, self.encoding)
            taken = retried(session, table.schema, self.path, lambda: session.copy_in(statement, self._blocks(saved)))
        except Refused as exc:
            raise DatabaseFailed(item=self.item, reason=f"rows of {saved.name}: {exc}") from exc
        if taken != saved.rows:
            reason = f"rows of {saved.name}: the server took {taken}, the dump has {saved.rows}"
            raise DatabaseFailed(item=self.item, reason=reason)

    def _blocks(self, saved: SavedTable) -> Iterator[bytes]:
        for block in self.dump.blocks(saved.files):
            if self._fault:
                raise self._fault
            yield block
            with self._lock:
                self.moved += len(block)


def copy_into(table: Table, encoding: str) -> str:
    """The COPY that takes what Table.copy_out gave; large objects' pages go aside first, see put_pages."""
    columns = ", ".join(ident(column.name) for column in table.columns)
    target = "pg_temp.tklb_pages" if table.spelled == LARGE_OBJECTS else table.sql
    return f"COPY {target}{f' ({columns})' if columns else ''} FROM STDIN WITH (ENCODING {literal(encoding)})"


def make_pages(session: Session) -> None:
    session.tell(PAGES)


def put_pages(session: Session, page_size: int) -> None:
    """Fill the large objects from what was set aside in this session."""
    session.tell(PUT_PAGES.format(size=page_size))
    session.tell("DROP TABLE pg_temp.tklb_pages")
