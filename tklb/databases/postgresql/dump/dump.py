"""Dump a server: its roles, then each database in scope, at one moment of that database, whole or reported as skipped.

One connection holds the moment and the locks. The work of the programs is checked: the end of each section of pg_dump,
and the number of each table's rows, which the server counts. The stage definitions lists the files of a database. Takes
a login, a scope and an empty folder; gives what was dumped. Reads only; writes below the folder.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tklb.databases.dump_format import encode_folder_name, write_file, write_json
from tklb.databases.interface import DatabaseScope, DumpResult
from tklb.databases.postgresql import ENGINE, Login
from tklb.databases.postgresql.accounts import ACL_AS_JSON, dump_accounts, format_grants, read_grants
from tklb.databases.postgresql.catalogue import (
    LARGE_OBJECTS as PAGES,
)
from tklb.databases.postgresql.catalogue import (
    Properties,
    Table,
    is_closed,
    list_databases,
    list_extensions,
    list_remarks,
    list_roles,
    list_sequences,
    list_tables,
    open_maintenance,
    read_large_objects,
    read_page_size,
    read_properties,
    read_version,
)
from tklb.databases.postgresql.connection import (
    ONLY_TABLES,
    ServerConnection,
    ServerError,
    open_connection,
    quote_name,
    quote_text,
)
from tklb.databases.postgresql.definitions import DETAILS, LARGE_OBJECTS, SEQUENCES, dump_definitions
from tklb.databases.postgresql.dump.consistent_snapshot import open_consistent_snapshot
from tklb.databases.postgresql.dump.dump_rows import RowSource, dump_rows
from tklb.databases.postgresql.dump.manual_script import write_manual_script
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedDatabase, SavedServer, SavedTable

__all__ = ["dump_databases"]

_TEXT = ("utf-8", "surrogateescape")
_SHORT_WAIT = 2  # seconds for locks in a database after one in which a wait was in vain


def dump_databases(login: Login, scope: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
    """Dump every database in scope, and all roles, into the folder. Raises ServerError, DatabaseFailed."""
    report = DatabaseReport(ENGINE)
    saved: list[SavedDatabase] = []
    with open_maintenance(login) as connection:
        accounts = dump_accounts(connection, folder)
        version = read_version(connection)
        for database in list_databases(connection):
            if not scope.has_database(database.name):
                continue
            if is_closed(connection, database.name):
                report.skip(database.name, "", "it allows no connections")
                continue
            dump = _DatabaseDump(login, database.name, folder / encode_folder_name(database.name), scope, progress)
            saved += dump.run()
            report.add(dump.report)
            if dump.has_waited:  # all databases together wait about as long as is allowed for one
                login = replace(login, lock_seconds=min(_SHORT_WAIT, login.lock_seconds))
    for name in login.others:
        report.skip_other(
            name,
            "one cluster is taken, that with the lowest port; a libpq service (databases.pgsql_service) names another",
        )
    return DumpResult(SavedServer(ENGINE, version, tuple(saved), accounts), tuple(report.skipped), tuple(report.notes))


class _DatabaseDump:
    """The dump of one database into `folder`."""

    def __init__(self, login: Login, name: str, folder: Path, scope: DatabaseScope, progress: Progress) -> None:
        self.report = DatabaseReport(ENGINE)
        self.has_waited = False  # for a lock, in vain
        self._login, self._name, self._folder = login, name, folder
        self._scope, self._progress = scope, progress

    def run(self) -> tuple[SavedDatabase, ...]:
        """Dump it; nothing where it failed, which the report then says."""
        begin = time.monotonic()
        try:
            with open_connection(self._login, self._name) as connection:
                connection.fetch_rows(ONLY_TABLES)
                return (self._dump(connection),)
        except (ServerError, ProgramFailed, ProgramMissing, DatabaseFailed) as exc:
            self.has_waited = time.monotonic() - begin >= self._login.lock_seconds
            shutil.rmtree(self._folder, ignore_errors=True)
            self.report = DatabaseReport(ENGINE)
            self.report.skip(self._name, "", str(exc))
            return ()

    def _dump(self, connection: ServerConnection) -> SavedDatabase:
        folder, name = self._folder, self._name
        snapshot = open_consistent_snapshot(connection)
        self.has_waited = bool(snapshot.left_out)
        for (_, schema, relation), reason in snapshot.left_out.items():
            self.report.skip(name, f"{schema}.{relation}", reason)
        left_out = {oid for oid, _, _ in snapshot.left_out}
        without = [(schema, relation) for _, schema, relation in snapshot.left_out]
        tables = [table for table in list_tables(connection) if table.oid not in left_out]
        pages = read_large_objects(connection)
        tables += [pages] if pages else []
        properties = read_properties(connection, name)
        wanted = [table for table in tables if self._scope.has_rows(name, *table.spellings)]
        source = RowSource(connection, snapshot.name, folder, self._progress)
        rows = dump_rows(
            source, wanted, lambda: dump_definitions(connection, snapshot.name, folder, without), self.report
        )
        _write_details(connection, folder, properties, tables, left_out)
        saved = tuple(rows.get(table.oid, SavedTable(table.full_name)) for table in tables)
        page_size = read_page_size(connection) if pages else None
        write_manual_script(folder, properties.encoding, tables, saved, page_size)
        for remark in list_remarks(connection):
            self.report.note(f"{ENGINE}:{name}: {remark}")
        extensions = [f"extension:{each}" for each in list_extensions(connection) if each != "plpgsql"]
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return SavedDatabase(ENGINE, name, folder.name, saved, size, (*extensions, *properties.needs))


def _write_details(
    connection: ServerConnection, folder: Path, properties: Properties, tables: Sequence[Table], without: set[str]
) -> None:
    """Write database.json, large objects and sequences; `without` are the oids of relations that are left out."""
    if any(table.full_name == PAGES for table in tables):
        write_file(folder / LARGE_OBJECTS, "".join(_format_large_objects(connection)).encode(*_TEXT))
    write_file(folder / SEQUENCES, "".join(list_sequences(connection, without)).encode(*_TEXT))
    details = {
        "properties": asdict(properties),
        "roles": list_roles(connection),
        "extensions": list_extensions(connection),
        "has_public": connection.fetch_value("SELECT count(*) FROM pg_namespace WHERE nspname = 'public'") == "1",
        "has_gaps": bool(without),
        "page_size": read_page_size(connection),
        "tables": [
            {
                "name": table.full_name,
                "schema": table.schema,
                "table": table.table,
                "condition": table.condition,
                "columns": [[column.name, column.type] for column in table.columns],
            }
            for table in tables
        ],
    }
    write_json(folder / DETAILS, details)


def _format_large_objects(connection: ServerConnection) -> Iterator[str]:
    """Statements that make every large object, empty, by its own number; with owner, privileges and comment."""
    acl = ACL_AS_JSON.format(acl="m.lomacl")
    rows = connection.fetch_rows(
        f"SELECT m.oid, pg_get_userbyid(m.lomowner), {acl}, obj_description(m.oid, 'pg_largeobject')"
        " FROM pg_largeobject_metadata m ORDER BY m.oid"
    )
    for oid, owner, grants, comment in rows:
        thing = f"LARGE OBJECT {oid}"
        yield f"SELECT pg_catalog.lo_create({oid});\nALTER {thing} OWNER TO {quote_name(owner or '')};\n"
        statements = format_grants(thing, owner or "", read_grants(json.loads(grants)) if grants else None)
        yield "".join(f"{statement};\n" for statement in statements)
        if comment is not None:
            yield f"COMMENT ON {thing} IS {quote_text(comment)};\n"
