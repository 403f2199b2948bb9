"""The catalogue of the server: databases, and tables with their columns.

Takes a connection whose answers are not converted (`character_set_results` is binary), so that definitions are exact to
the byte; gives values. Names are compared as they are: the server's own tables compare without case and accents.

The server shows some texts inexactly. Characters beyond three bytes of UTF-8 are question marks in a column's default
and in the members of an ENUM or SET. An event's statement is in two character sets. `correct_column` and
`correct_event` ask for the exact text; for that, a temporary table comes and goes.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from tklb.databases.mariadb import ENGINE
from tklb.databases.mariadb.connection import ServerConnection, decode, quote_name, quote_text
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import Database

__all__ = ["Column", "Table", "list_databases", "read_version"]

SYSTEM = frozenset({"information_schema", "performance_schema", "mysql", "sys"})
OURS = re.compile(r"tklb_(scratch|aside)_[0-9a-f]{16}")  # a restore makes these; a killed one leaves them
# a folder of the file system or of a tool in the data folder, which the server takes for a database of an old version
_FOLDER = re.compile(r"#mysql50#(\.|lost\+found$)")
# What --hex-blob writes as 0x...: values that are bytes.
BYTES = frozenset(
    {
        *("bit", "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"),
        *("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"),
        *("geometrycollection", "geomcollection"),
    }
)
_NUMBERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "double", "float", "year"})
ROWLESS = frozenset({"MRG_MYISAM", "FEDERATED", "SPIDER", "CONNECT", "BLACKHOLE", "OQGRAPH"})  # rows are not their own
_EMPTY_MEMBER = re.compile(r"[(,]''[,)]")
_MEMBER = re.compile(r"'(?:[^']|'')*'")
_MEMBERS = quote_name("tklb members")
_ESCAPES = (
    *((b"\\", b"\\\\"), (b"'", b"\\'"), (b'"', b'\\"'), (b"\0", b"\\0"), (b"\n", b"\\n"), (b"\r", b"\\r")),
    (b"\x1a", b"\\Z"),
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, and the form of its values in a line of rows."""

    name: str
    type: str  # without its length: varchar
    extra: str = ""
    collation: str = ""
    full_type: str = ""  # with its length or members
    default: str = ""  # as the server shows it

    @property
    def is_stored(self) -> bool:
        """Whether a row has a value of it; the server generates the values of other columns."""
        return "GENERATED" not in self.extra.upper()

    @property
    def is_bytes(self) -> bool:
        return self.type in BYTES

    @property
    def is_choice(self) -> bool:
        return self.type in ("enum", "set")

    @property
    def is_number(self) -> bool:
        """Whether only the number of a member is exact: an empty member reads as no member at all."""
        return self.is_choice and bool(_EMPTY_MEMBER.search(self.full_type))

    @property
    def selection(self) -> str:
        """The expression that gives its value exactly: a FLOAT alone comes with six digits."""
        name = quote_name(self.name)
        return f"CAST({name} AS DOUBLE)" if self.type == "float" else f"{name} + 0" if self.is_number else name

    def format_value(self, value: bytes | None) -> bytes:
        """A value as the dump program writes it."""
        if value is None:
            return b"NULL"
        if self.type in _NUMBERS or self.is_number:
            return value
        if self.is_bytes:
            return b"0x" + value.hex().upper().encode() if value else b"''"
        for raw, escaped in _ESCAPES:
            if raw in value:
                value = value.replace(raw, escaped)
        return b"'" + value + b"'"


@dataclass(frozen=True, slots=True)
class Table:
    """A table, view or sequence."""

    database: str
    name: str
    kind: str  # BASE TABLE, SYSTEM VERSIONED, SEQUENCE, VIEW
    engine: str = ""
    collation: str = ""
    size: int = 0
    columns: tuple[Column, ...] = ()

    @property
    def has_rows(self) -> bool:
        return self.kind in ("BASE TABLE", "SYSTEM VERSIONED") and self.engine.upper() not in ROWLESS

    @property
    def is_inexact(self) -> bool:
        """Whether the dump program would not give its rows exactly, or not a row a line."""
        return not self.stored_columns or any(each.type == "float" or each.is_number for each in self.columns)

    @property
    def generated_columns(self) -> tuple[str, ...]:
        """The columns whose values the server generates; those of its history are not among them."""
        columns = () if self.kind == "SYSTEM VERSIONED" else self.columns
        return tuple(column.name for column in columns if not column.is_stored)

    @property
    def kept_columns(self) -> tuple[str, ...]:
        """Those of them whose values are stored, and are not generated again by those who read them."""
        kept = ("STORED", "PERSISTENT")
        extras = {column.name: column.extra.upper() for column in self.columns}
        return tuple(name for name in self.generated_columns if extras[name].startswith(kept))

    @property
    def counter(self) -> str:
        """The column that numbers its rows; empty where it has none."""
        return next((column.name for column in self.columns if "auto_increment" in column.extra.lower()), "")

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.is_stored)

    @property
    def sql(self) -> str:
        return quote_name(self.database, self.name)


@dataclass(frozen=True, slots=True)
class Schema:
    """A database with the names of all that is in it."""

    name: str
    charset: str
    collation: str
    comment: str = ""
    tables: tuple[Table, ...] = ()
    routines: tuple[tuple[str, str, str], ...] = ()  # kind, name, comment
    triggers: tuple[tuple[str, str], ...] = ()  # table, name; in the order they fire
    events: tuple[str, ...] = ()


def read_version(connection: ServerConnection) -> str:
    """The version as people write it: MariaDB 10.11.14, MySQL 8.0.36."""
    version = connection.fetch_value("SELECT VERSION()")
    number = re.match(r"\d+(\.\d+)*", version)
    return f"{'MariaDB' if 'mariadb' in version.lower() else 'MySQL'} {number[0] if number else 0}"


def list_databases(connection: ServerConnection) -> tuple[Database, ...]:
    """All databases but the server's own and those of a restore, with their sizes, by name."""
    found = connection.fetch_texts(
        "SELECT s.SCHEMA_NAME, COALESCE(SUM(t.DATA_LENGTH + t.INDEX_LENGTH), 0) FROM information_schema.SCHEMATA s"
        " LEFT JOIN information_schema.TABLES t ON BINARY t.TABLE_SCHEMA = BINARY s.SCHEMA_NAME"
        " GROUP BY BINARY s.SCHEMA_NAME"
    )
    return tuple(sorted(Database(ENGINE, name, int(size)) for name, size in found if is_of_user(name)))


def is_of_user(name: str) -> bool:
    """Whether a database is neither the server's nor of a restore."""
    return name not in SYSTEM and not OURS.fullmatch(name) and not _FOLDER.match(name)


def list_schemas(connection: ServerConnection, only: str = "") -> dict[str, Schema]:
    """Every database but the server's own and those of a restore, by name; or one of them."""
    tables = list_tables(connection, only)
    routines, triggers, events = (
        _list_by_database(connection, columns, source, only)
        for columns, source in (
            ("ROUTINE_SCHEMA, ROUTINE_TYPE, ROUTINE_NAME, ROUTINE_COMMENT", "ROUTINES"),
            (
                "TRIGGER_SCHEMA, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER, TRIGGER_NAME",
                "TRIGGERS",
            ),
            ("EVENT_SCHEMA, EVENT_NAME", "EVENTS"),
        )
    )
    comment = "SCHEMA_COMMENT" if _has_comments(connection) else "''"
    found = connection.fetch_texts(
        f"SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, {comment}"
        " FROM information_schema.SCHEMATA"
    )
    return {
        name: Schema(
            *(name, charset, collation, note),
            tuple(tables[name]),
            tuple((kind.lower(), routine, comment) for kind, routine, comment in sorted(routines[name])),
            tuple((row[0], row[-1]) for row in sorted(triggers[name], key=_rank_trigger)),
            tuple(event for (event,) in sorted(events[name])),
        )
        for name, charset, collation, note in sorted(found)
        if is_of_user(name) and only in ("", name)
    }


def _rank_trigger(trigger: tuple[str, ...]) -> tuple[str, str, str, int]:
    table, timing, event, place, _ = trigger
    return table, timing, event, int(place)


def _has_comments(connection: ServerConnection) -> bool:
    where = "TABLE_SCHEMA = 'information_schema' AND TABLE_NAME = 'SCHEMATA' AND COLUMN_NAME = 'SCHEMA_COMMENT'"
    return bool(connection.fetch_rows(f"SELECT 1 FROM information_schema.COLUMNS WHERE {where}"))


def _list_by_database(
    connection: ServerConnection, columns: str, source: str, only: str
) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    schema = columns.partition(",")[0]
    where = f" WHERE {schema} = {quote_text(only)}" if only else ""
    for name, *rest in connection.fetch_texts(f"SELECT {columns} FROM information_schema.{source}{where}"):
        found[name].append(tuple(rest))
    return found


def list_tables(connection: ServerConnection, only: str) -> dict[str, list[Table]]:
    """The tables and views of every database, or of one, in the order of their names."""
    facts = "TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION, COLUMN_NAME, DATA_TYPE, EXTRA, COLLATION_NAME, COLUMN_TYPE"
    columns = {
        database: _sort_columns(rows)
        for database, rows in _list_by_database(connection, f"{facts}, COLUMN_DEFAULT", "COLUMNS", only).items()
    }
    tables: dict[str, list[Table]] = defaultdict(list)
    facts = "TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_COLLATION, COALESCE(DATA_LENGTH, 0)"
    for database, rows in _list_by_database(connection, facts, "TABLES", only).items():
        tables[database] = [
            Table(database, name, kind, engine, collation, int(size), columns.get(database, {}).get(name, ()))
            for name, kind, engine, collation, size in sorted(rows)
            if kind != "TEMPORARY"
        ]
    return tables


def _sort_columns(rows: Iterable[tuple[str, ...]]) -> dict[str, tuple[Column, ...]]:
    """The columns of each table, in the order they have in it."""
    columns: dict[str, tuple[Column, ...]] = {}
    for table, _, name, kind, *more in sorted(rows, key=lambda row: int(row[1])):
        columns[table] = (*columns.get(table, ()), Column(name, kind.lower(), *more))
    return columns


def correct_column(connection: ServerConnection, statement: bytes, table: Table, column: Column) -> bytes:
    """The statement of a table, with the type and default of a column as they are."""
    kind, default = column.full_type, column.default
    head, mark, tail = statement.partition(f"\n  {quote_name(column.name)} ".encode("utf-8", "surrogateescape"))
    if "?" in kind:
        tail = tail.replace(_encode(kind), _encode(_read_members(connection, table, column)), 1)
    if "?" in default and default.startswith("'"):
        exact = connection.fetch_value(
            f"SELECT HEX(CONVERT(DEFAULT(it.{quote_name(column.name)}) USING utf8mb4))"
            f" FROM (SELECT 1) AS one LEFT JOIN {table.sql} AS it ON FALSE"
        )
        line, end, rest = tail.partition(b"\n")
        wrong, right = (f" DEFAULT {value}" for value in (default, _format_text(decode(bytes.fromhex(exact)))))
        tail = line.replace(_encode(wrong), _encode(right), 1) + end + rest
    return head + mark + tail


def _read_members(connection: ServerConnection, table: Table, column: Column) -> str:
    """An ENUM or SET with its exact members: a copy of the column gives them, one by one."""
    name = quote_name(column.name)
    word, _, shown = column.full_type.partition("(")
    exact = []
    connection.run(f"CREATE TEMPORARY TABLE {_MEMBERS} SELECT {name} FROM {table.sql} LIMIT 0")
    try:
        for number, _ in enumerate(_MEMBER.findall(shown)):
            connection.run(f"INSERT INTO {_MEMBERS} ({name}) VALUES ({1 << number if word == 'set' else number + 1})")
            value = connection.fetch_value(f"SELECT HEX(CONVERT({name} USING utf8mb4)) FROM {_MEMBERS}")
            connection.run(f"DELETE FROM {_MEMBERS}")
            exact.append(_format_text(decode(bytes.fromhex(value))))
    finally:
        connection.run(f"DROP TEMPORARY TABLE {_MEMBERS}")
    return f"{word}({','.join(exact)})"


def correct_event(connection: ServerConnection, statement: bytes, database: str, name: str, charset: str) -> bytes:
    """The statement of an event, all of it in the character set that the event was made in."""
    where = f"db = {quote_text(database)} AND name = {quote_text(name)}"
    body = connection.fetch_rows(f"SELECT body FROM mysql.event WHERE {where}") if charset[:4] != "utf8" else ()
    content = body[0][0] if body else None
    if not content or not statement.endswith(content):
        return statement
    head = statement.removesuffix(content)
    if head.isascii():
        return statement
    turned = connection.fetch_rows(f"SELECT CONVERT(CONVERT(X'{head.hex()}' USING utf8mb4) USING {charset})")[0][0]
    return (turned or head) + content


def count_rows(connection: ServerConnection, table: Table) -> tuple[int, str]:
    """How many rows a table has, and the digest of its generated values."""
    return int(connection.fetch_value(f"SELECT COUNT(*) FROM {table.sql}")), read_digest(connection, table)


def read_digest(connection: ServerConnection, table: Table) -> str:
    """A digest of the generated values that are stored, whatever the order of rows; empty where there are none."""
    if not table.kept_columns:
        return ""
    values = ", ".join(f"IFNULL(HEX(CAST({quote_name(name)} AS BINARY)), '-')" for name in table.kept_columns)
    digits = f"CONV(LEFT(SHA2(CONCAT_WS(' ', {values}), 256), 15), 16, 10)"
    return connection.fetch_value(f"SELECT SUM(CAST({digits} AS DECIMAL(30))) FROM {table.sql}")


def _format_text(value: str) -> str:
    """A text as SHOW CREATE writes it."""
    for raw, escaped in (("\\", "\\\\"), ("'", "''"), ("\n", "\\n"), ("\r", "\\r"), ("\0", "\\0"), ("\x1a", "\\Z")):
        value = value.replace(raw, escaped)
    return f"'{value}'"


def _encode(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
