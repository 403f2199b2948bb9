"""Dump a server: its roles, then each database in scope, at one moment of that database, whole or reported as skipped.

One connection holds the moment and the locks. The work of the programs is checked: the end of each section of pg_dump,
and the number of each table's rows, which the server counts. The stage definitions lists the files of a database. Takes
a login, a scope and an empty folder; gives what was dumped. Reads only; writes below the folder.
"""

import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from tklb.base.concurrency import run_until_ended
from tklb.databases.dump_format import encode_folder_name
from tklb.databases.interface import DatabaseScope, DumpResult
from tklb.databases.postgresql import ENGINE, Login
from tklb.databases.postgresql.accounts import dump_accounts
from tklb.databases.postgresql.catalogue import (
    Properties,
    is_closed,
    list_collation_locales,
    list_databases,
    list_extensions,
    list_tables,
    measure_tables,
    open_maintenance,
    read_large_objects,
    read_page_size,
    read_properties,
    read_version,
)
from tklb.databases.postgresql.connection import (
    ServerConnection,
    ServerError,
    ServerFullError,
    find_refusal,
    open_connection,
)
from tklb.databases.postgresql.definitions import dump_definitions
from tklb.databases.postgresql.dump.consistent_snapshot import (
    ConsistentSnapshot,
    explain_locks,
    open_consistent_snapshot,
)
from tklb.databases.postgresql.dump.details import write_details, write_sequences
from tklb.databases.postgresql.dump.dump_rows import RowSource, dump_rows
from tklb.databases.postgresql.dump.manual_script import write_manual_script
from tklb.databases.postgresql.dump.pg_dump import (
    DefinitionsDump,
    PgDump,
    find_choices,
    is_lock_timeout,
    is_without_room,
)
from tklb.databases.postgresql.dump.remarks import list_remarks
from tklb.databases.postgresql.session_settings import ONLY_TABLES
from tklb.databases.postgresql.settings_trial import dump_settings
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.model.callbacks import Progress
from tklb.model.databases import Database, SavedDatabase, SavedServer, SavedTable

__all__ = ["dump_databases"]

_SHORT_WAIT = 2  # seconds for locks in a database after one in which a wait was in vain
_SMALL = 32 << 20  # bytes of a database whose dump is mostly waiting for pg_dump
_SIDE_BY_SIDE, _TOGETHER = 2, 4  # small databases that are dumped at once, and that have a session by then


def dump_databases(login: Login, scope: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
    """Dump every database in scope, and all roles, into the folder. Raises ServerError, DatabaseFailed."""
    report = DatabaseReport(ENGINE)
    with open_maintenance(login, patience=login.lock_seconds) as connection:
        accounts = dump_accounts(connection, folder)
        version, settings = read_version(connection), dump_settings(connection)
        found = [database for database in list_databases(connection) if scope.has_database(database.name)]
        closed = {database.name for database in found if is_closed(connection, database.name)}
    if login.data and os.path.islink(f"{login.data}/pg_wal"):
        place = os.path.realpath(f"{login.data}/pg_wal")
        report.note(f"{ENGINE}: the write-ahead log is in {place}: a restore leaves it in the data of its cluster")
    series = _Series(login, scope, folder, progress)
    series.run([database for database in found if database.name not in closed])
    saved: list[SavedDatabase] = []
    for name in (database.name for database in found):
        if name in closed:
            report.skip(name, "", "it allows no connections")
            continue
        dump = series.dumps[name]
        saved += dump.saved
        report.add(dump.report)
    server = SavedServer(ENGINE, version, tuple(saved), accounts, settings)
    return DumpResult(server, tuple(report.skipped), tuple(report.notes))


class _NoRoomError(Exception):
    """The server has no room for all sessions or locks of a dump beside another."""


class _Series:
    """The dumps of all databases: large ones one after the other, small ones two side by side.

    Nobody may connect while a thread is at work. So some small databases get their sessions first, then their dumps
    begin.
    """

    def __init__(self, login: Login, scope: DatabaseScope, folder: Path, progress: Progress) -> None:
        self.dumps: dict[str, _DatabaseDump] = {}
        self._login, self._scope, self._folder, self._progress = login, scope, folder, progress
        self._lock = threading.Lock()
        self._has_room = True  # for sessions beside those of one dump

    def run(self, databases: Sequence[Database]) -> None:
        small = [database for database in databases if database.bytes < _SMALL]
        for place in range(0, len(small), _TOGETHER):
            several = [self._make(database) for database in small[place : place + _TOGETHER]]
            for dump in self._run_beside(several) if self._has_room and len(several) > 1 else several:
                self._run_alone(dump)
        for database in (each for each in databases if each.bytes >= _SMALL):
            self._run_alone(self._make(database))

    def _make(self, database: Database) -> "_DatabaseDump":
        folder = self._folder / encode_folder_name(database.name)
        dump = _DatabaseDump(self._login, database.name, folder, self._scope, self._report_progress)
        self.dumps[database.name] = dump
        return dump

    def _run_alone(self, dump: "_DatabaseDump") -> None:
        dump.shorten_waits(self._login)
        dump.run()
        self._note_wait(dump)

    def _run_beside(self, dumps: Sequence["_DatabaseDump"]) -> list["_DatabaseDump"]:
        """Dump some side by side, and give those that must be alone: the server has too little room for them."""
        waiting: SimpleQueue[_DatabaseDump] = SimpleQueue()
        with ExitStack() as stack:
            for dump in dumps:
                if self._has_room:
                    self._has_room = dump.open(stack)
                    waiting.put(dump)
            run_until_ended([partial(self._work_off, waiting)] * _SIDE_BY_SIDE, partial(_cancel, dumps))
        left = [dump for dump in dumps if not dump.is_done]
        self._has_room = not left
        return left

    def _work_off(self, waiting: SimpleQueue["_DatabaseDump"]) -> None:
        with suppress(Empty):
            while dump := waiting.get_nowait():
                dump.shorten_waits(self._login)
                dump.run_beside()
                self._note_wait(dump)

    def _note_wait(self, dump: "_DatabaseDump") -> None:
        """All databases together wait about as long as is allowed for one."""
        if dump.has_waited:
            self._login = replace(self._login, lock_seconds=min(_SHORT_WAIT, self._login.lock_seconds))

    def _report_progress(self, label: str, done: int, total: int) -> None:
        with self._lock:
            self._progress(label, done, total)


def _cancel(dumps: Iterable["_DatabaseDump"]) -> None:
    for dump in dumps:
        dump.cancel()


class _DatabaseDump:
    """The dump of one database into `folder`."""

    def __init__(self, login: Login, name: str, folder: Path, scope: DatabaseScope, progress: Progress) -> None:
        self.report = DatabaseReport(ENGINE)
        self.saved: tuple[SavedDatabase, ...] = ()  # nothing where it failed, which the report then says
        self.has_waited = False  # for a lock, in vain
        self.is_done = False
        self._login, self._name, self._folder = login, name, folder
        self._scope, self._progress = scope, progress
        self._connection: ServerConnection | None = None
        self._is_over = False

    def shorten_waits(self, login: Login) -> None:
        """Wait for locks as this login says."""
        self._login = login
        if self._connection:
            self._connection.login = login

    def run(self) -> None:
        """Dump it, with a connection of its own."""
        with self._keep_failure(), open_connection(self._login, self._name, self._login.lock_seconds) as connection:
            self.saved = (self._dump(connection),)
        self.is_done = True

    def open(self, stack: ExitStack) -> bool:
        """Connect for `run_beside`; False where the server has no room."""
        try:
            self._connection = stack.enter_context(open_connection(self._login, self._name))
        except ServerFullError:
            return False
        except (ServerError, DatabaseFailed):
            pass  # it is dumped alone, and then says why
        return True

    def run_beside(self) -> None:
        """Dump it in any thread, where it is open and needs no further connection of ours."""
        if not self._connection or self._is_over:
            return
        try:
            with self._keep_failure():
                self.saved = (self._dump_beside(self._connection),)
            self.is_done = True
        except _NoRoomError:
            self._begin_again()

    def cancel(self) -> None:
        """End its work in another thread."""
        self._is_over = True
        if self._connection:
            self._connection.cancel()

    @contextmanager
    def _keep_failure(self) -> Iterator[None]:
        try:
            yield
        except (ServerError, ProgramFailed, ProgramMissing, DatabaseFailed) as exc:
            self.has_waited |= is_lock_timeout(exc) or isinstance(exc, ServerFullError)
            self._begin_again()
            self.report.skip(self._name, "", find_refusal(str(exc)))

    def _begin_again(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self.report = DatabaseReport(ENGINE)

    def _dump(self, connection: ServerConnection) -> SavedDatabase:
        snapshot = self._open_snapshot(connection)
        program = replace(find_choices(connection), has_labels=True)  # for a moment when there may be some
        try:
            return self._dump_by_two_sessions(connection, snapshot)
        except (ProgramFailed, ServerError) as exc:  # either may meet the server's last lock
            if not is_without_room(exc):
                raise
        return self._dump_by_one_session(connection, program, _list_names(snapshot))

    def _dump_beside(self, connection: ServerConnection) -> SavedDatabase:
        try:
            return self._dump_by_two_sessions(connection, self._open_snapshot(connection))
        except (ProgramFailed, ServerError) as exc:
            if is_without_room(exc):
                raise _NoRoomError from exc
            raise

    def _dump_by_two_sessions(self, connection: ServerConnection, snapshot: ConsistentSnapshot) -> SavedDatabase:
        definitions = DefinitionsDump(connection, snapshot.name, _list_names(snapshot))
        definitions.start()
        try:
            return self._take(connection, snapshot, definitions)
        finally:
            definitions.close()

    def _dump_by_one_session(
        self, connection: ServerConnection, program: PgDump, without: Sequence[tuple[str, str]]
    ) -> SavedDatabase:
        """Dump where the server has no room for us beside pg_dump: it runs before and after, and must give the same."""
        connection.close()
        self._begin_again()
        try:
            before = program.dump_sections_alone(without)
        except ProgramFailed as exc:
            connection.reopen()
            raise explain_locks(connection, exc) from exc
        connection.reopen()
        saved = self._take(connection, self._open_snapshot(connection), None)
        connection.close()
        if program.dump_sections_alone(without) != before:
            reason = "its definitions changed meanwhile, and the server has no room for pg_dump beside our own session"
            raise DatabaseFailed(item=f"{ENGINE}:{self._name}", reason=reason)
        dump_definitions(self._folder, *before)
        return saved

    def _open_snapshot(self, connection: ServerConnection) -> ConsistentSnapshot:
        connection.fetch_rows(ONLY_TABLES)
        snapshot = open_consistent_snapshot(connection)
        self.has_waited |= snapshot.has_waited
        for (_, schema, relation), reason in snapshot.left_out.items():
            self.report.skip(self._name, f"{schema}.{relation}", reason)
        return snapshot

    def _take(
        self, connection: ServerConnection, snapshot: ConsistentSnapshot, definitions: DefinitionsDump | None
    ) -> SavedDatabase:
        """Dump all that the snapshot has; the definitions too, where pg_dump reads them beside us."""
        folder, name = self._folder, self._name
        left_out = {oid for oid, _, _ in snapshot.left_out}
        tables = [table for table in list_tables(connection) if table.oid not in left_out]
        pages = read_large_objects(connection)
        tables += [pages] if pages else []
        properties = read_properties(connection, name)
        write_details(connection, folder, properties, tables, has_gaps=bool(left_out))
        wanted = measure_tables(connection, [t for t in tables if self._scope.has_rows(name, *t.spellings)])
        watch = definitions.watch if definitions else lambda: None
        source = RowSource(connection, snapshot.name, folder, self._progress, watch)
        if definitions:
            definitions.check()
        rows = dump_rows(source, wanted, self.report)
        saved = tuple(rows.get(table.oid, SavedTable(table.full_name)) for table in tables)
        page_size = read_page_size(connection) if pages else None
        write_manual_script(folder, properties.encoding, tables, saved, page_size)
        for remark in list_remarks(connection):
            self.report.note(f"{ENGINE}:{name}: {remark}")
        extensions = [f"extension:{each}" for each in list_extensions(connection) if each != "plpgsql"]
        if definitions:
            dump_definitions(folder, *definitions.finish())
        write_sequences(connection, folder, left_out, self.report)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return SavedDatabase(ENGINE, name, folder.name, saved, size, _list_needs(connection, extensions, properties))


def _list_needs(connection: ServerConnection, extensions: Iterable[str], properties: Properties) -> tuple[str, ...]:
    collations = (f"locale:{name}" for name in list_collation_locales(connection))
    return tuple(dict.fromkeys((*extensions, *properties.needs, *collations)))


def _list_names(snapshot: ConsistentSnapshot) -> list[tuple[str, str]]:
    return [(schema, relation) for _, schema, relation in snapshot.left_out]
