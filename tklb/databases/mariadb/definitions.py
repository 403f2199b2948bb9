"""Definitions: the statements that make tables, views, sequences, routines, triggers and events.

    tables/ views/ sequences/ ...   the statement that makes it, in the character set it was made in
    rows/                           rows, see tklb.databases.row_files
    definitions.json                names, files, and the modes, character sets and time zones they were made in

Out of the server: `show_definitions` asks, `dump_definitions` writes them into the folder of a database in a dump. And
back: `read_definitions` reads and checks that folder, `load_definitions` makes them in the modes and character sets of
then. A definition that cannot be made is reported, never a reason to stop.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tklb.databases.dump_format import DumpFolder, encode_file_name, write_file, write_json
from tklb.databases.mariadb.catalogue import Schema, Table, correct_column, correct_event
from tklb.databases.mariadb.connection import NEUTRAL, ServerConnection, ServerError, decode, quote_name, quote_text
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed, printable
from tklb.lazy_dataclass import dataclass

__all__ = ["SavedDefinitions", "dump_definitions", "load_definitions", "read_definitions"]

DEFINITIONS = "definitions.json"
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
# all but tables and sequences, in the order they are made
PROGRAMS = ("package", "package body", "function", "procedure", "view", "trigger", "event")
_DEFINER = re.compile(rb'DEFINER=([`"])((?:(?!\1).|\1\1)*)\1(?:@([`"])((?:(?!\3).|\3\3)*)\3)?', re.DOTALL)
_COUNTER = re.compile(rb" AUTO_INCREMENT=\d+")
_WORD = re.compile(r"[A-Za-z0-9_]+")
_MADE = ("sql_mode", "client", "connection", "collation", "time_zone", "table", "comment")


@dataclass(frozen=True, slots=True)
class Definition:
    """An object as the server would make it again: `text` in the character set it was made in."""

    kind: str  # table, view, sequence, procedure, function, package, package body, trigger, event
    name: str
    text: bytes
    sql_mode: str = ""
    client: str = "utf8mb4"
    connection: str = "utf8mb4_general_ci"
    collation: str = ""  # of the database when it was made
    time_zone: str = ""
    table: str = ""  # a trigger's
    position: tuple[int, int] | None = None  # a sequence's next value and how often it went round
    comment: str = ""  # a routine's, where the statement does not give it exactly

    @property
    def definer(self) -> str:
        """USER@HOST, or a role; empty where it has none."""
        found = _DEFINER.search(self.text)
        if not found or self.kind in ("table", "sequence"):
            return ""
        mark, user, mark2, host = found.groups()
        name = decode(user.replace(mark * 2, mark))
        return f"{name}@{decode(host.replace(mark2 * 2, mark2))}" if host is not None else name

    @property
    def steady(self) -> tuple[object, ...]:
        """The parts that do not change while rows come and go."""
        shape = _COUNTER.sub(b"", self.text) if self.kind == "table" else self.text
        return shape, self.sql_mode, self.time_zone, self.table, self.comment

    @property
    def file(self) -> str:
        """Where it is below the folder of its database."""
        return f"{FOLDERS[self.kind]}/{encode_file_name(self.name)}.sql"

    @property
    def mode(self) -> str:
        """The statement that sets a connection to the modes in which the object was made."""
        zone = f", time_zone = {quote_text(self.time_zone)}" if self.time_zone else ""
        return (
            f"SET SESSION sql_mode = {quote_text(self.sql_mode)}, character_set_client = {quote_text(self.client)},"
            f" collation_connection = {quote_text(self.connection)}{zone}"
        )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object whose definition the server does not give."""

    kind: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How the lines of rows of a table are read again."""

    columns: tuple[str, ...]  # the values of a line, in order
    bytes: frozenset[str]  # those that are written as 0x...
    numbers: frozenset[str]  # those that are written as the number of a member
    choices: frozenset[str]  # those that have members
    has_rows: bool  # of its own; a MERGE table, say, has none
    counter: str = ""  # the column that numbers the rows
    generated: str = ""  # the digest of the generated values that are stored
    time_zone: str = ""  # of the server, for which values were generated


@dataclass(frozen=True, slots=True)
class SavedDefinitions:
    """The definitions of a dumped database, in the order in which they can be made, and its own properties."""

    name: str
    charset: str
    collation: str
    comment: str
    definitions: tuple[Definition, ...]
    tables: Mapping[str, RowFormat]

    def select(self, *kinds: str) -> tuple[Definition, ...]:
        return tuple(each for each in self.definitions if each.kind in kinds)


# ---------------------------------------------------------------- out of the server


def show_definitions(connection: ServerConnection, schema: Schema) -> Iterator[Definition | Unreadable]:
    """Ask for the definition of everything in a database, in the order in which it can be made. Raises ServerError."""
    connection.run(f"USE {quote_name(schema.name)}")
    for table in schema.tables:
        if table.kind == "SEQUENCE":
            yield _show(connection, "sequence", table.name)
    for table in schema.tables:
        if table.kind not in ("SEQUENCE", "VIEW"):
            yield _correct_table(connection, table, _show(connection, "table", table.name))
    for kind, name, comment in schema.routines:
        yield _correct_routine(comment, _show(connection, kind, name))
    for table in schema.tables:
        if table.kind == "VIEW":
            yield _show(connection, "view", table.name)
    for of_table, name in schema.triggers:
        yield _show(connection, "trigger", name, of_table)
    for name in schema.events:
        yield _correct_event(connection, schema.name, _show(connection, "event", name))


def _show(connection: ServerConnection, kind: str, name: str, table: str = "") -> Definition | Unreadable:
    try:
        row = connection.fetch_rows(f"SHOW CREATE {kind.upper()} {quote_name(name)}")[0]
        position = _read_position(connection, name) if kind == "sequence" else None
    except (ServerError, IndexError) as exc:
        return Unreadable(kind, name, str(exc) or "the server does not show it")
    if kind in ("table", "sequence"):
        return Definition(kind, name, row[1] or b"", position=position)
    if kind == "view":
        return Definition(kind, name, row[1] or b"", "", decode(row[2]), decode(row[3]))
    zone = decode(row[2]) if kind == "event" else ""
    content, client, connection_, collation = row[3:7] if kind == "event" else row[2:6]
    if not content:
        return Unreadable(kind, name, "the server does not show it")
    made = (decode(row[1]), decode(client), decode(connection_), decode(collation))
    return Definition(kind, name, content, *made, zone, table)


def _read_position(connection: ServerConnection, name: str) -> tuple[int, int]:
    row = connection.fetch_texts(f"SELECT next_not_cached_value, cycle_count FROM {quote_name(name)}")[0]
    return int(row[0]), int(row[1])


def _correct_table(
    connection: ServerConnection, table: Table, shown: Definition | Unreadable
) -> Definition | Unreadable:
    if isinstance(shown, Unreadable):
        return shown
    statement = shown.text
    for column in table.columns:
        if column.collation and "?" in column.full_type + column.default:
            statement = correct_column(connection, statement, table, column)
    return replace(shown, text=statement)


def _correct_routine(comment: str, shown: Definition | Unreadable) -> Definition | Unreadable:
    is_exact = comment.isascii() and "\\" not in comment
    if isinstance(shown, Unreadable) or is_exact or shown.kind not in ("procedure", "function"):
        return shown
    return replace(shown, comment=comment)


def _correct_event(
    connection: ServerConnection, database: str, shown: Definition | Unreadable
) -> Definition | Unreadable:
    if isinstance(shown, Unreadable):
        return shown
    return replace(shown, text=correct_event(connection, shown.text, database, shown.name, shown.client))


def dump_definitions(
    folder: Path, schema: Schema, definitions: Sequence[Definition], generated: Mapping[str, Mapping[str, str]]
) -> None:
    """Write the definitions into the folder of their database.

    `generated` has, by table, the digest of its generated values and the server's time zone.
    """
    tables = {table.name: table for table in schema.tables}
    objects = []
    for each in definitions:
        write_file(folder / each.file, each.text)
        entry: dict[str, Any] = {"kind": each.kind, "name": each.name, "definer": each.definer}
        entry |= {key: getattr(each, key) for key in _MADE if getattr(each, key)}
        if each.position:
            entry["position"] = list(each.position)
        if each.kind == "table":
            entry |= _describe_rows(tables[each.name])
            entry |= {"generated": dict(generated[each.name])} if each.name in generated else {}
        objects.append(entry)
    about = {"name": schema.name, "charset": schema.charset, "collation": schema.collation, "comment": schema.comment}
    write_json(folder / DEFINITIONS, about | {"objects": objects})


def make_row_format(table: Table) -> RowFormat:
    """The format of the lines of rows of a table that is in the server."""
    return replace(_read_row_format(_describe_rows(table)), counter=table.counter)


def _describe_rows(table: Table) -> dict[str, Any]:
    return {
        "columns": [column.name for column in table.stored_columns],
        "bytes": [column.name for column in table.stored_columns if column.is_bytes],
        "numbers": [column.name for column in table.stored_columns if column.is_number],
        "choices": [column.name for column in table.stored_columns if column.is_choice],
        "has_rows": table.has_rows,
    }


# ---------------------------------------------------------------- and back


def read_definitions(dump: DumpFolder) -> SavedDefinitions:
    """Read the definitions in the folder of a database. Raises DatabaseFailed where they are not as they should be."""
    value = dump.read_json(DEFINITIONS)
    try:
        definitions = tuple(_read_definition(dump, entry) for entry in value["objects"])
        tables = {str(entry["name"]): _read_row_format(entry) for entry in value["objects"] if entry["kind"] == "table"}
        name, charset, collation, comment = (str(value[key]) for key in ("name", "charset", "collation", "comment"))
        _check_words(charset, collation, *(each.collation for each in definitions if each.collation))
        return SavedDefinitions(name, charset, collation, comment, definitions, tables)
    except (KeyError, TypeError, ValueError) as exc:
        reason = f"{DEFINITIONS} of its dump is not as it should be: {exc!r}"
        raise DatabaseFailed(item=dump.item, reason=reason) from exc


def _read_row_format(entry: Mapping[str, Any]) -> RowFormat:
    bytes_, numbers, choices = (frozenset(map(str, entry[key])) for key in ("bytes", "numbers", "choices"))
    generated = entry.get("generated", {})
    return RowFormat(
        *(tuple(map(str, entry["columns"])), bytes_, numbers, choices, bool(entry["has_rows"])),
        generated=str(generated.get("digest", "")),
        time_zone=str(generated.get("time_zone", "")),
    )


def _read_definition(dump: DumpFolder, entry: Mapping[str, Any]) -> Definition:
    position = entry.get("position")
    sql_mode, client, connection, collation, time_zone, table, comment = (str(entry.get(key, "")) for key in _MADE)
    place = (int(position[0]), int(position[1])) if position else None
    kind, name = str(entry["kind"]), str(entry["name"])
    bare = Definition(kind, name, b"", sql_mode, client, connection, collation, time_zone, table, place, comment)
    content = dump.read(bare.file)
    if not content.startswith(b"CREATE "):
        raise ValueError(f"{bare.file} makes nothing")
    return replace(bare, text=content)


def _check_words(*words: str) -> None:
    """Character sets and collations stand in statements as they are."""
    for word in words:
        if not _WORD.fullmatch(word):
            raise ValueError(f"{word!r} is no character set or collation")


def drop_definitions(connection: ServerConnection, database: str, definitions: Iterable[Definition]) -> None:
    """Drop the objects that are there. Raises ServerError."""
    for each in definitions:
        name = quote_name(database, each.name)
        if each.kind == "package":
            connection.run_as_oracle(f"DROP PACKAGE IF EXISTS {name}")
        elif each.kind != "package body":
            connection.run(f"DROP {each.kind.upper()} IF EXISTS {name}")


def load_definitions(
    connection: ServerConnection, database: str, definitions: Sequence[Definition], report: DatabaseReport
) -> list[tuple[Definition, str]]:
    """Make the programs among them, kind by kind; views again and again as long as one more can be made.

    Returns the views that could not be made, and why: they may need a database that is still to come.
    """
    connection.run(f"USE {quote_name(database)}")
    collation = _read_collation(connection)
    waiting: list[tuple[Definition, str]] = []
    for kind in PROGRAMS:
        failed = _try_all(connection, database, [each for each in definitions if each.kind == kind])
        if kind == "view":
            waiting = _retry_views(connection, database, failed)
            continue
        for each, reason in failed:
            report.skip(database, each.name, f"{each.kind}: {reason}")
    _set_neutral(connection)
    if _read_collation(connection) != collation:
        connection.run(f"ALTER DATABASE {quote_name(database)} COLLATE {collation}")
    return waiting


def _try_all(connection: ServerConnection, database: str, todo: Iterable[Definition]) -> list[tuple[Definition, str]]:
    failed = []
    for each in todo:
        try:
            make_definition(connection, database, each)
        except ServerError as exc:
            failed.append((each, printable(exc.discreet)))
    return failed


def _retry_views(
    connection: ServerConnection, database: str, failed: list[tuple[Definition, str]]
) -> list[tuple[Definition, str]]:
    while failed:
        again = _try_all(connection, database, [view for view, _ in failed])
        if len(again) == len(failed):
            return again
        failed = again
    return failed


def make_definition(connection: ServerConnection, database: str, definition: Definition) -> None:
    """Make one program. Raises ServerError."""
    connection.run(f"USE {quote_name(database)}")
    try:
        if definition.collation and definition.collation != _read_collation(connection):
            connection.run(f"ALTER DATABASE {quote_name(database)} COLLATE {definition.collation}")
        connection.run(definition.mode)
        connection.run(definition.text)
    finally:
        _set_neutral(connection)
    if definition.comment:
        about = f"{definition.kind.upper()} {quote_name(definition.name)}"
        connection.run(f"ALTER {about} COMMENT {quote_text(definition.comment)}")


def _set_neutral(connection: ServerConnection) -> None:
    connection.run("SET NAMES utf8mb4")
    connection.run(NEUTRAL)


def _read_collation(connection: ServerConnection) -> str:
    return connection.fetch_value("SELECT @@collation_database")
