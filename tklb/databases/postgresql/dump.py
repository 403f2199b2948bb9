"""Dump one database: its definitions by pg_dump, its rows by psql, all at one moment of that database.

PostgreSQL has no moment that several databases share: each has its own. One session holds the moment and the locks;
what others do in it is checked: the end of each section, and each table's rows, counted by the server. Writes a folder:

    database.json       properties, tables and their columns, what the definitions need
    pre-data.sql        pg_dump's section before the rows
    large-objects.sql   the large objects, empty, with owners, privileges and comments
    rows/...            the rows as COPY gives them; large objects' pages are a table of their own
    sequences.sql       where the sequences are
    post-data.sql       pg_dump's section after the rows: keys, indexes, triggers, ...
    load.sql            for psql: all of it, by hand
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tklb.databases.dump_format import write_file, write_json
from tklb.databases.filter import spell_item
from tklb.databases.interface import DatabaseScope
from tklb.databases.postgresql import catalogue
from tklb.databases.postgresql.byhand import load_script
from tklb.databases.postgresql.catalogue import Table
from tklb.databases.postgresql.cluster import ENGINE, Cluster
from tklb.databases.postgresql.copying import ROWS, Copying
from tklb.databases.postgresql.details import DETAILS, LARGE_OBJECTS, LOAD, POST_DATA, PRE_DATA, SEQUENCES
from tklb.databases.postgresql.largeobjects import large_object_statements
from tklb.databases.postgresql.locking import Relation, lock
from tklb.databases.postgresql.properties import Properties, ask_properties, needs_of
from tklb.databases.postgresql.sections import Definer, free_waiting
from tklb.databases.postgresql.session import Refused, Session
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedDatabase, SavedTable
from tklb.model.report import Skipped


@dataclass(slots=True)
class DatabaseDump:
    """The dump of one database into `folder`. `skipped` and `notes` are what its `taken` leaves behind."""

    cluster: Cluster
    name: str
    folder: Path
    lock_seconds: int
    wish: DatabaseScope
    progress: Progress
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def taken(self) -> SavedDatabase | None:
        """Dump it; None where nothing of it is there, which `skipped` then says."""
        try:
            with Session(self.cluster, self.name, self.lock_seconds) as session:
                return self._taken(session)
        except (Refused, ProgramFailed, ProgramMissing, DatabaseFailed) as exc:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.skipped[:] = [Skipped(spell_item(ENGINE, self.name), str(exc))]
            self.notes.clear()
            return None

    def _taken(self, session: Session) -> SavedDatabase:
        relations = catalogue.lockable(session)
        session.tell("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        left_out = self._lock(session, relations)
        snapshot = session.value("SELECT pg_export_snapshot()") or ""
        gone = {oid for oid, _, _ in left_out}
        tables = [table for table in catalogue.tables(session) if table.oid not in gone]
        pages = catalogue.large_objects(session)
        tables += [pages] if pages else []
        properties = ask_properties(session, self.name)
        wanted = [table for table in tables if self.wish.has_rows(self.name, *table.spellings)]
        rows = self._rows(session, snapshot, wanted, left_out)
        if pages:
            write_file(self.folder / LARGE_OBJECTS, "".join(large_object_statements(session)).encode(*_TEXT))
        write_file(self.folder / SEQUENCES, "".join(catalogue.sequences(session, gone)).encode(*_TEXT))
        self._describe(session, properties, tables, bool(left_out))
        saved = tuple(rows.get(table.oid, SavedTable(table.spelled)) for table in tables)
        write_file(
            self.folder / LOAD, load_script(properties.encoding, tables, saved, _page_size(session) if pages else None)
        )
        self.notes += [f"{ENGINE}:{self.name}: {remark}" for remark in catalogue.remarks(session)]
        extensions = [f"extension:{name}" for name in catalogue.extensions(session) if name != "plpgsql"]
        size = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        return SavedDatabase(ENGINE, self.name, self.folder.name, saved, size, (*extensions, *needs_of(properties)))

    def _lock(self, session: Session, relations: Sequence[Relation]) -> tuple[Relation, ...]:
        """Lock all tables; those that are left out, with all that hangs on them, are named."""
        failed = lock(session, relations, self.lock_seconds)
        for (_, schema, name), reason in failed.items():
            self._skip(schema, name, f"{reason}; neither its definition nor its rows were dumped")
        hanging = catalogue.dependants(session, tuple(oid for oid, _, _ in failed)) if failed else ()
        for _, schema, name in (relation for relation in hanging if relation not in failed):
            self._skip(schema, name, "it depends on a table that is locked, and was not dumped")
        return (*failed, *hanging)

    def _skip(self, schema: str, name: str, reason: str) -> None:
        self.skipped.append(Skipped(spell_item(ENGINE, self.name, f"{schema}.{name}"), reason))

    def _rows(
        self, session: Session, snapshot: str, tables: Sequence[Table], left_out: Sequence[Relation]
    ) -> dict[str, SavedTable]:
        """The definitions, and the rows of tables, by oid."""
        with self._copying(session) as copying:
            copying.begin(tables, snapshot)
            self._define(session, snapshot, [(schema, name) for _, schema, name in left_out])
            total = sum(table.size for table in tables)
            copying.start()
            counts = {}
            for table in tables:
                counts[table.oid] = self._count(session, table, copying)
                self.progress(f"{ENGINE}:{self.name}", copying.done.size(), total)
            copying.wait(lambda: self.progress(f"{ENGINE}:{self.name}", copying.done.size(), total))
        found = ((table, self._checked(table, copying, counts[table.oid])) for table in tables)
        return {table.oid: saved for table, saved in found if saved}

    @contextlib.contextmanager
    def _copying(self, session: Session) -> Iterator[Copying]:
        copying = Copying(self.cluster, self.name, session.encoding, session.version, self.lock_seconds, self.folder)
        try:
            yield copying
        finally:
            copying.close()

    def _define(self, session: Session, snapshot: str, without: Sequence[tuple[str, str]]) -> None:
        watch = self.lock_seconds

        def free() -> None:
            free_waiting(session, watch)

        definer = Definer(self.cluster, self.name, session.encoding, session.version, self.lock_seconds, free)
        for section, file in (("pre-data", PRE_DATA), ("post-data", POST_DATA)):
            write_file(self.folder / file, definer.section(section, snapshot, without))

    def _count(self, session: Session, table: Table, copying: Copying) -> int:
        session.tell("SAVEPOINT a_count")
        try:
            return int(session.value(table.count()) or 0)
        except Refused as exc:
            session.tell("ROLLBACK TO SAVEPOINT a_count")
            copying.done.failures.setdefault(table.oid, f"its rows cannot be counted: {exc}")
            return -1

    def _checked(self, table: Table, copying: Copying, count: int) -> SavedTable | None:
        """The rows of a table, if they are as many as the server counts; else they are removed and named."""
        writer = copying.done.written.get(table.oid)
        reason = copying.done.failures.get(table.oid)
        rows, files = (writer.rows, writer.files) if writer else (0, [])
        if reason is None and rows == count:
            return SavedTable(table.spelled, rows, tuple(f"{ROWS}/{name}" for name in files))
        for name in files:
            (self.folder / ROWS / name).unlink()
        reason = reason or f"{rows} rows came, the server counts {count}"
        self._skip(table.schema, table.table, f"its rows were not dumped: {reason}")
        return None

    def _describe(self, session: Session, properties: Properties, tables: Sequence[Table], has_gaps: bool) -> None:
        details = {
            "properties": asdict(properties),
            "roles": catalogue.roles_used(session),
            "extensions": catalogue.extensions(session),
            "has_public": session.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'public'") == "1",
            "has_gaps": has_gaps,
            "page_size": _page_size(session),
            "tables": [
                {
                    "name": table.spelled,
                    "schema": table.schema,
                    "table": table.table,
                    "condition": table.condition,
                    "columns": [[column.name, column.type] for column in table.columns],
                }
                for table in tables
            ],
        }
        write_json(self.folder / DETAILS, details)


_TEXT = ("utf-8", "surrogateescape")


def _page_size(session: Session) -> int:
    """What a page of a large object holds: LOBLKSIZE of large_object.h."""
    return int(session.value("SELECT current_setting('block_size')") or 8192) // 4
