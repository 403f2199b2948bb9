"""The small files of a dumped database: its properties, the large objects without their pages, the sequences.

Takes the connection that holds the snapshot; writes below the folder of the database. Reads only.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tklb.databases.dump_format import write_file, write_json
from tklb.databases.postgresql.accounts import ACL_AS_JSON, format_grants, read_grants
from tklb.databases.postgresql.catalogue import LARGE_OBJECTS as PAGES
from tklb.databases.postgresql.catalogue import (
    Properties,
    Table,
    list_extension_versions,
    list_extensions,
    list_roles,
    list_sequences,
    read_page_size,
)
from tklb.databases.postgresql.cluster.tablespaces import list_places, read_default_space
from tklb.databases.postgresql.connection import ServerConnection, ServerError, quote_name, quote_text
from tklb.databases.postgresql.definitions import DETAILS, LARGE_OBJECTS, SEQUENCES
from tklb.databases.report import DatabaseReport

__all__ = ["write_details", "write_sequences"]

_TEXT = ("utf-8", "surrogateescape")
_NUMBER = re.compile(r"-?[0-9]+")
_TOGETHER = 100  # sequences read by one statement


def write_details(
    connection: ServerConnection, folder: Path, properties: Properties, tables: Sequence[Table], *, has_gaps: bool
) -> None:
    """Write database.json and the large objects. `has_gaps`: some relations are left out."""
    if any(table.full_name == PAGES for table in tables):
        write_file(folder / LARGE_OBJECTS, "".join(_format_large_objects(connection)).encode(*_TEXT))
    details: dict[str, object] = {
        "properties": asdict(properties),
        "roles": list_roles(connection),
        "extensions": list_extensions(connection),
        "extension_versions": list_extension_versions(connection),
        "has_public": connection.fetch_value("SELECT count(*) FROM pg_namespace WHERE nspname = 'public'") == "1",
        "has_gaps": has_gaps,
        "page_size": read_page_size(connection),
        "lc_monetary": connection.login.monetary,
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
    if space := read_default_space(connection):
        details["tablespace"] = space
    if places := list_places(connection):
        details["places"] = places
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


def write_sequences(
    connection: ServerConnection, folder: Path, without: Collection[str], report: DatabaseReport
) -> None:
    """Write where the sequences are, but those of some oids. They know no transaction: call it last."""
    sequences = list_sequences(connection, without)
    statements: list[str] = []
    for place in range(0, len(sequences), _TOGETHER):
        several = sequences[place : place + _TOGETHER]
        try:
            statements += _read_positions(connection, several)
        except ServerError:  # one by one, the one that cannot be read is seen
            statements += _read_each(connection, several, report)
    write_file(folder / SEQUENCES, "".join(statements).encode(*_TEXT))


def _read_each(
    connection: ServerConnection, sequences: Sequence[tuple[str, str, str]], report: DatabaseReport
) -> Iterator[str]:
    for sequence in sequences:
        try:
            yield from _read_positions(connection, [sequence])
        except ServerError as exc:
            report.skip(connection.database, ".".join(sequence[1:]), f"it cannot be read where the sequence is: {exc}")


def _read_positions(connection: ServerConnection, sequences: Sequence[tuple[str, str, str]]) -> list[str]:
    """Statements that set sequences to where they are. No lock on them stays."""
    names = [quote_name(schema, name) for _, schema, name in sequences]
    parts = (f"(SELECT {place}, last_value, is_called FROM {name})" for place, name in enumerate(names))
    connection.run("SAVEPOINT some_sequences")
    try:
        rows = connection.fetch_rows(" UNION ALL ".join(parts))
    finally:
        connection.run("ROLLBACK TO SAVEPOINT some_sequences; RELEASE SAVEPOINT some_sequences")
    found = {int(place or 0): rest for place, *rest in rows}
    return [_format_position(name, *found.get(place, (None, None))) for place, name in enumerate(names)]


def _format_position(name: str, last: str | None, is_called: str | None) -> str:
    if not _NUMBER.fullmatch(last or ""):  # an owner put a table in its place: its text must not become a statement
        raise ServerError(f"{name} was replaced while it was read")
    return f"SELECT pg_catalog.setval({quote_text(name)}, {last}, {'true' if is_called == 't' else 'false'});\n"
