"""Dump a server: its roles, then each database in scope, at one moment of that database, whole or reported as skipped.

One connection holds the moment and the locks. The work of the programs is checked: the end of each section of pg_dump,
and the number of each table's rows, which the server counts. The stage definitions lists the files of a database. Takes
a login, a scope and an empty folder; gives what was dumped. Reads only; writes below the folder.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

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
from tklb.databases.postgresql.dump.pg_dump import DefinitionsDump, PgDump, is_lock_timeout, is_without_room
from tklb.databases.postgresql.dump.remarks import list_remarks
from tklb.databases.postgresql.session_settings import ONLY_TABLES
from tklb.databases.postgresql.settings_trial import dump_settings
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedDatabase, SavedServer, SavedTable

__all__ = ["dump_databases"]

_SHORT_WAIT = 2  # seconds for locks in a database after one in which a wait was in vain


def dump_databases(login: Login, scope: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
    """Dump every database in scope, and all roles, into the folder. Raises ServerError, DatabaseFailed."""
    report = DatabaseReport(ENGINE)
    saved: list[SavedDatabase] = []
    with open_maintenance(login, patience=login.lock_seconds) as connection:
        accounts = dump_accounts(connection, folder)
        version, settings = read_version(connection), dump_settings(connection)
        names = [database.name for database in list_databases(connection) if scope.has_database(database.name)]
        closed = {name for name in names if is_closed(connection, name)}
    for name in names:
        if name in closed:
            report.skip(name, "", "it allows no connections")
            continue
        dump = _DatabaseDump(login, name, folder / encode_folder_name(name), scope, progress)
        saved += dump.run()
        report.add(dump.report)
        if dump.has_waited:  # all databases together wait about as long as is allowed for one
            login = replace(login, lock_seconds=min(_SHORT_WAIT, login.lock_seconds))
    server = SavedServer(ENGINE, version, tuple(saved), accounts, settings)
    return DumpResult(server, tuple(report.skipped), tuple(report.notes))


class _DatabaseDump:
    """The dump of one database into `folder`."""

    def __init__(self, login: Login, name: str, folder: Path, scope: DatabaseScope, progress: Progress) -> None:
        self.report = DatabaseReport(ENGINE)
        self.has_waited = False  # for a lock, in vain
        self._login, self._name, self._folder = login, name, folder
        self._scope, self._progress = scope, progress

    def run(self) -> tuple[SavedDatabase, ...]:
        """Dump it; nothing where it failed, which the report then says."""
        try:
            with open_connection(self._login, self._name, self._login.lock_seconds) as connection:
                return (self._dump(connection),)
        except (ServerError, ProgramFailed, ProgramMissing, DatabaseFailed) as exc:
            self.has_waited |= is_lock_timeout(exc) or isinstance(exc, ServerFullError)
            self._begin_again()
            self.report.skip(self._name, "", find_refusal(str(exc)))
            return ()

    def _begin_again(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self.report = DatabaseReport(ENGINE)

    def _dump(self, connection: ServerConnection) -> SavedDatabase:
        snapshot = self._open_snapshot(connection)
        definitions = DefinitionsDump(connection, snapshot.name, _list_names(snapshot))
        definitions.start()
        try:
            return self._take(connection, snapshot, definitions)
        except (ProgramFailed, ServerError) as exc:  # either may meet the server's last lock
            if not is_without_room(exc):
                raise
        finally:
            definitions.close()
        return self._dump_by_one_session(connection, _list_names(snapshot))

    def _dump_by_one_session(self, connection: ServerConnection, without: Sequence[tuple[str, str]]) -> SavedDatabase:
        """Dump where the server has no room for us beside pg_dump: it runs before and after, and must give the same."""
        connection.close()
        self._begin_again()
        try:
            before = PgDump(connection).dump_sections_alone(without)
        except ProgramFailed as exc:
            connection.reopen()
            raise explain_locks(connection, exc) from exc
        connection.reopen()
        saved = self._take(connection, self._open_snapshot(connection), None)
        connection.close()
        if PgDump(connection).dump_sections_alone(without) != before:
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
