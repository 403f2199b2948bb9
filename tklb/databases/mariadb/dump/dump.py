"""Dump a server: all of it that is in scope, at one moment, whole or reported as skipped.

Takes a login, a scope and an empty folder; gives what was dumped. Reads only; writes below the folder.
"""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tklb.databases.dump_format import ROWS, encode_folder_name
from tklb.databases.interface import DatabaseScope, DumpResult
from tklb.databases.mariadb import ENGINE, Login
from tklb.databases.mariadb.accounts import dump_accounts
from tklb.databases.mariadb.catalogue import Schema, Table, list_schemas, read_version
from tklb.databases.mariadb.connection import ServerConnection, ServerError, open_connection
from tklb.databases.mariadb.definitions import Definition, Unreadable, dump_definitions, show_definitions
from tklb.databases.mariadb.dump.dump_rows import RowSource, TableRows, dump_rows
from tklb.databases.mariadb.dump.manual_script import write_manual_script
from tklb.databases.mariadb.settings import dump_settings
from tklb.databases.report import DatabaseReport
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedDatabase, SavedServer, SavedTable

__all__ = ["dump_databases"]

_BINARY = "SET character_set_results = binary"
Found = dict[tuple[str, str], Definition]  # by kind and name


def dump_databases(login: Login, scope: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
    """Dump every database in scope, and all accounts, into the folder. Raises ServerError."""
    report = DatabaseReport(ENGINE)
    with open_connection(login, patience=login.lock_seconds) as control:
        control.run(_BINARY)
        schemas = {name: each for name, each in list_schemas(control).items() if scope.has_database(name)}
        found = {name: _show_definitions(control, schema, report) for name, schema in schemas.items()}
        every = [table for schema in schemas.values() for table in schema.tables]
        tables = [
            table
            for table in every
            if table.has_rows
            and scope.has_rows(table.database, table.name)
            and ("table", table.name) in found[table.database]
        ]
        chosen = set(tables)
        source = RowSource(login, control, login.find_dump_program(read_version(control)), folder, progress)
        rows = dump_rows(source, tables, [table for table in every if table not in chosen], report)
        saved, zone = [], control.fetch_value("SELECT @@GLOBAL.time_zone")
        for name, schema in schemas.items():
            place, steady = folder / encode_folder_name(name), _show_again(control, schema, found[name], report)
            if steady is not None:
                saved.append(_write_database(place, schema, steady, rows, zone))
            elif place.exists():
                shutil.rmtree(place)
        accounts = dump_accounts(control, folder, report)
        server = SavedServer(ENGINE, read_version(control), tuple(saved), accounts, dump_settings(control))
        return DumpResult(server, tuple(report.skipped), tuple(report.notes))


def _show_definitions(control: ServerConnection, schema: Schema, report: DatabaseReport) -> Found:
    found: Found = {}
    with contextlib.suppress(ServerError):  # a database that is gone by now is reported at the end
        for each in show_definitions(control, schema):
            if isinstance(each, Unreadable):
                report.skip(schema.name, each.name, f"{each.kind}: {each.reason}")
            else:
                found[each.kind, each.name] = each
    return found


def _show_again(
    control: ServerConnection, schema: Schema, first: Found, report: DatabaseReport
) -> list[Definition] | None:
    """The definitions that are as they were before the rows were read; None where the database is gone."""
    try:
        again = {(each.kind, each.name): each for each in show_definitions(control, schema)}
    except ServerError as exc:
        report.skip_database(schema.name, f"it was gone before the dump ended: {exc}")
        return None
    steady = []
    for key, definition in first.items():
        now = again.get(key)
        if isinstance(now, Definition) and now.steady == definition.steady:
            steady.append(definition)
        else:
            gone = not isinstance(now, Definition)
            report.skip(schema.name, key[1], f"{key[0]}: {'gone' if gone else 'changed'} before the dump ended")
    return steady


def _write_database(
    folder: Path, schema: Schema, steady: Sequence[Definition], rows: Mapping[Table, TableRows], zone: str
) -> SavedDatabase:
    names = {each.name for each in steady if each.kind == "table"}
    own = [table for table in schema.tables if table.name in names]
    tables = tuple(_save_table(table, rows.get(table)) for table in own if table.has_rows)
    _remove_rows(folder, {name for table in tables for name in table.files})
    generated = {
        table.name: {"digest": rows[table].generated, "time_zone": zone}
        for table in own
        if table.generated_columns and table in rows
    }
    dump_definitions(folder, schema, steady, generated)
    write_manual_script(folder, schema, steady, tables)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return SavedDatabase(ENGINE, schema.name, folder.name, tables, size, _list_needs(schema, own))


def _save_table(table: Table, rows: TableRows | None) -> SavedTable:
    if rows is None or not rows.is_whole:
        return SavedTable(table.name)
    return SavedTable(table.name, rows.writer.rows, rows.files)


def _remove_rows(folder: Path, kept: set[str]) -> None:
    """Remove the rows of tables that are not whole after all."""
    names = os.listdir(folder / ROWS) if (folder / ROWS).is_dir() else ()
    for name in names:
        if f"{ROWS}/{name}" not in kept:
            (folder / ROWS / name).unlink()


def _list_needs(schema: Schema, tables: Sequence[Table]) -> tuple[str, ...]:
    engines = {f"engine:{table.engine}" for table in tables if table.engine}
    collations = {table.collation for table in tables} | {schema.collation}
    collations |= {column.collation for table in tables for column in table.columns}
    types = {column.type for table in tables for column in table.columns} & _NEW_TYPES
    needs = engines | {f"collation:{name}" for name in collations if name} | {f"type:{name}" for name in types}
    return tuple(sorted(needs))


_NEW_TYPES = frozenset({"uuid", "inet4", "inet6", "vector", "xmltype"})
