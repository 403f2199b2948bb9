"""Dump a server: what is wanted of it, at one moment, whole or named as skipped.

Takes a login, a wish and an empty folder; gives what was taken. Reads only; writes below the folder.
"""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tklb.databases.dump_format import folder_of
from tklb.databases.interface import DatabaseScope, DumpResult
from tklb.databases.mariadb import stored
from tklb.databases.mariadb.accounts import dump_accounts
from tklb.databases.mariadb.by_hand import write_load_file
from tklb.databases.mariadb.catalogue import ENGINE, Definition, Schema, Table, Unreadable, definitions, schemas
from tklb.databases.mariadb.said import Notes
from tklb.databases.mariadb.server import program, version
from tklb.databases.mariadb.session import Login, ServerError, Session
from tklb.databases.mariadb.tables import Means, Taken, take_rows
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedDatabase, SavedServer, SavedTable

_BINARY = "SET character_set_results = binary"


def dump(login: Login, wish: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
    """Raises ServerError."""
    said = Notes()
    with login.open() as control:
        control.run(_BINARY)
        wanted = {name: each for name, each in schemas(control).items() if wish.has_database(name)}
        found = {name: _read_definitions(control, schema, said) for name, schema in wanted.items()}
        tables = [
            table
            for name, schema in wanted.items()
            for table in schema.tables
            if table.has_rows and wish.has_rows(name, table.name) and ("table", table.name) in found[name]
        ]
        chosen = set(tables)
        others = [table for schema in wanted.values() for table in schema.tables if table not in chosen]
        means = Means(login, control, program(), lambda name: folder / folder_of(name), progress)
        taken = take_rows(means, tables, others, said)
        saved = []
        for name, schema in wanted.items():
            place, steady = folder / folder_of(name), _unchanged(control, schema, found[name], said)
            if steady is not None:
                saved.append(_write(place, schema, steady, taken))
            elif place.exists():
                shutil.rmtree(place)
        accounts = dump_accounts(control, folder, said)
        return DumpResult(
            SavedServer(ENGINE, version(control), tuple(saved), accounts), tuple(said.skipped), tuple(said.notes)
        )


Found = dict[tuple[str, str], Definition]


def _read_definitions(control: Session, schema: Schema, said: Notes) -> Found:
    found: Found = {}
    with contextlib.suppress(ServerError):  # a database that is gone by now is named at the end
        for each in definitions(control, schema):
            if isinstance(each, Unreadable):
                said.skip(schema.name, each.name, f"{each.kind}: {each.reason}")
            else:
                found[each.kind, each.name] = each
    return found


def _unchanged(control: Session, schema: Schema, first: Found, said: Notes) -> list[Definition] | None:
    """Those that are as they were before the rows were read; None where the database is gone."""
    try:
        again = {(each.kind, each.name): each for each in definitions(control, schema)}
    except ServerError as exc:
        said.skip_whole(schema.name, f"it was gone before the dump ended: {exc}")
        return None
    steady = []
    for key, definition in first.items():
        now = again.get(key)
        if isinstance(now, Definition) and now.steady == definition.steady:
            steady.append(definition)
        else:
            gone = not isinstance(now, Definition)
            said.skip(schema.name, key[1], f"{key[0]}: {'gone' if gone else 'changed'} before the dump ended")
    return steady


def _write(folder: Path, schema: Schema, steady: Sequence[Definition], taken: dict[Table, Taken]) -> SavedDatabase:
    names = {each.name for each in steady if each.kind == "table"}
    tables = []
    for table in schema.tables:
        if table.name not in names or not table.has_rows:
            continue
        rows = taken.get(table)
        is_whole = rows is not None and rows.is_whole
        tables.append(
            SavedTable(table.name, rows.writer.rows, rows.names) if rows and is_whole else SavedTable(table.name)
        )
    _drop_rows(folder, {name for table in tables for name in table.files})
    stored.write(folder, schema, steady)
    write_load_file(folder, schema, steady, tables)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    own = [table for table in schema.tables if table.name in names]
    return SavedDatabase(ENGINE, schema.name, folder.name, tuple(tables), size, _needs(schema, own))


def _drop_rows(folder: Path, kept: set[str]) -> None:
    """Take away the rows of tables that are not whole after all."""
    if (folder / stored.ROWS).is_dir():
        for name in os.listdir(folder / stored.ROWS):
            if f"{stored.ROWS}/{name}" not in kept:
                (folder / stored.ROWS / name).unlink()


def _needs(schema: Schema, tables: Sequence[Table]) -> tuple[str, ...]:
    engines = {f"engine:{table.engine}" for table in tables if table.engine}
    collations = {table.collation for table in tables} | {schema.collation}
    collations |= {column.collation for table in tables for column in table.columns}
    types = {column.type for table in tables for column in table.columns} & _NEW_TYPES
    needs = engines | {f"collation:{name}" for name in collations if name} | {f"type:{name}" for name in types}
    return tuple(sorted(needs))


_NEW_TYPES = frozenset({"uuid", "inet4", "inet6", "vector", "xmltype"})
