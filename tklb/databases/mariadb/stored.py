"""A database of a dump on disk: a file for each object, exact to the byte, and what else they need to be made again.

    tables/ views/ sequences/ ...   the statement that makes it, in the character set it was made in
    rows/                           rows, see tklb.databases.row_files
    definitions.json                names, files, and the modes, character sets and time zones they were made in

Takes and gives values; touches the folder it is given. What is read back is checked.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tklb.databases.dump_format import DumpFolder, encode_file_name, write_file, write_json
from tklb.databases.mariadb.catalogue import Definition, Schema, Table
from tklb.errors import DatabaseFailed

DEFINITIONS = "definitions.json"
ROWS = "rows"
FOLDERS = {
    "sequence": "sequences",
    "table": "tables",
    "procedure": "procedures",
    "function": "functions",
    "package": "packages",
    "package body": "package-bodies",
    "view": "views",
    "trigger": "triggers",
    "event": "events",
}
_WORD = re.compile(r"[A-Za-z0-9_]+")
_MADE = ("sql_mode", "client", "connection", "collation", "time_zone", "table", "comment")


@dataclass(frozen=True, slots=True)
class StoredTable:
    """How the rows of a table are read again."""

    columns: tuple[str, ...]  # what a line holds, in order
    bytes: frozenset[str]  # those that are written as 0x...
    numbers: frozenset[str]  # those that are written as the number of a member
    choices: frozenset[str]  # those that have members
    has_rows: bool  # of its own; a MERGE table, say, has none


@dataclass(frozen=True, slots=True)
class Stored:
    name: str
    charset: str
    collation: str
    comment: str
    definitions: tuple[Definition, ...]  # in the order in which they can be made
    tables: Mapping[str, StoredTable]

    def of(self, *kinds: str) -> tuple[Definition, ...]:
        return tuple(each for each in self.definitions if each.kind in kinds)


def file_of(definition: Definition) -> str:
    return f"{FOLDERS[definition.kind]}/{encode_file_name(definition.name)}.sql"


def write(folder: Path, schema: Schema, definitions: Sequence[Definition]) -> None:
    tables = {table.name: table for table in schema.tables}
    objects = []
    for each in definitions:
        write_file(folder / file_of(each), each.text)
        entry: dict[str, Any] = {"kind": each.kind, "name": each.name, "definer": each.definer}
        entry |= {key: getattr(each, key) for key in _MADE if getattr(each, key)}
        if each.position:
            entry["position"] = list(each.position)
        if each.kind == "table":
            entry |= _form(tables[each.name])
        objects.append(entry)
    about = {"name": schema.name, "charset": schema.charset, "collation": schema.collation, "comment": schema.comment}
    write_json(folder / DEFINITIONS, about | {"objects": objects})


def read(dump: DumpFolder) -> Stored:
    """Raises DatabaseFailed where the dump is not as it should be."""
    value = dump.read_json(DEFINITIONS)
    try:
        definitions = tuple(_definition(dump, entry) for entry in value["objects"])
        tables = {str(entry["name"]): _table(entry) for entry in value["objects"] if entry["kind"] == "table"}
        name, charset, collation, comment = (str(value[key]) for key in ("name", "charset", "collation", "comment"))
        _check_words(charset, collation, *(each.collation for each in definitions if each.collation))
        return Stored(name, charset, collation, comment, definitions, tables)
    except (KeyError, TypeError, ValueError) as exc:
        reason = f"{DEFINITIONS} of its dump is not as it should be: {exc!r}"
        raise DatabaseFailed(item=dump.item, reason=reason) from exc


def form_of(table: Table) -> StoredTable:
    return _table(_form(table))


def _form(table: Table) -> dict[str, Any]:
    return {
        "columns": [column.name for column in table.given],
        "bytes": [column.name for column in table.given if column.is_bytes],
        "numbers": [column.name for column in table.given if column.is_number],
        "choices": [column.name for column in table.given if column.is_choice],
        "has_rows": table.has_rows,
    }


def _table(entry: Mapping[str, Any]) -> StoredTable:
    bytes_, numbers, choices = (frozenset(map(str, entry[key])) for key in ("bytes", "numbers", "choices"))
    return StoredTable(tuple(map(str, entry["columns"])), bytes_, numbers, choices, bool(entry["has_rows"]))


def _definition(dump: DumpFolder, entry: Mapping[str, Any]) -> Definition:
    position = entry.get("position")
    sql_mode, client, connection, collation, time_zone, table, comment = (str(entry.get(key, "")) for key in _MADE)
    place = (int(position[0]), int(position[1])) if position else None
    kind, name = str(entry["kind"]), str(entry["name"])
    bare = Definition(kind, name, b"", sql_mode, client, connection, collation, time_zone, table, place)
    bare = replace(bare, comment=comment)
    content = dump.read(file_of(bare))
    if not content.startswith(b"CREATE "):
        raise ValueError(f"{file_of(bare)} makes nothing")
    return replace(bare, text=content)


def _check_words(*words: str) -> None:
    """Character sets and collations stand in statements as they are."""
    for word in words:
        if not _WORD.fullmatch(word):
            raise ValueError(f"{word!r} is no character set or collation")
