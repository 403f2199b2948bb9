"""What there is: databases, tables with their columns, and the definition of every object as the server writes it.

Takes a session whose answers are not converted (`character_set_results` is binary), so that definitions are exact to
the byte; gives values. Names are compared as they are: the server's own tables compare without case and accents.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tklb.databases.mariadb.exact import exact_column, exact_event
from tklb.databases.mariadb.session import ServerError, Session, decoded, quoted, text
from tklb.model.databases import MARIADB, Database

SYSTEM = frozenset({"information_schema", "performance_schema", "mysql", "sys"})
ENGINE = MARIADB.word
OURS = re.compile(r"tklb_(scratch|aside)_[0-9a-f]{16}")  # what a restore makes, and a killed one leaves
# What --hex-blob writes as 0x...: values that are bytes.
BYTES = frozenset(
    {
        *("bit", "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"),
        *("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"),
        *("geometrycollection", "geomcollection"),
    }
)
ROWLESS = frozenset({"MRG_MYISAM", "FEDERATED", "SPIDER", "CONNECT", "BLACKHOLE", "OQGRAPH"})  # rows are not their own
_DEFINER = re.compile(rb'DEFINER=([`"])((?:(?!\1).|\1\1)*)\1(?:@([`"])((?:(?!\3).|\3\3)*)\3)?', re.DOTALL)
_EMPTY_MEMBER = re.compile(r"[(,]''[,)]")
_COUNTER = re.compile(rb" AUTO_INCREMENT=\d+")


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str  # without its length: varchar
    extra: str = ""
    collation: str = ""
    full_type: str = ""  # with its length or members
    default: str = ""  # as the server shows it

    @property
    def is_given(self) -> bool:
        """Whether a row brings it; the server works out the others itself."""
        return "GENERATED" not in self.extra.upper()

    @property
    def is_bytes(self) -> bool:
        return self.type in BYTES

    @property
    def is_choice(self) -> bool:
        return self.type in ("enum", "set")

    @property
    def is_number(self) -> bool:
        """Whether a value is told exactly by its number only: an empty member reads as no member at all."""
        return self.is_choice and bool(_EMPTY_MEMBER.search(self.full_type))


@dataclass(frozen=True, slots=True)
class Table:
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
    def given(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.is_given)

    @property
    def address(self) -> str:
        return f"{quoted(self.database)}.{quoted(self.name)}"


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
    comment: str = ""  # a routine's, where the statement does not tell it exactly

    @property
    def definer(self) -> str:
        """USER@HOST, or a role; empty where it has none."""
        found = _DEFINER.search(self.text)
        if not found or self.kind in ("table", "sequence"):
            return ""
        mark, user, mark2, host = found.groups()
        name = decoded(user.replace(mark * 2, mark))
        return f"{name}@{decoded(host.replace(mark2 * 2, mark2))}" if host is not None else name

    @property
    def steady(self) -> tuple[object, ...]:
        """What does not change while rows come and go."""
        shape = _COUNTER.sub(b"", self.text) if self.kind == "table" else self.text
        return shape, self.sql_mode, self.time_zone, self.table, self.comment


def databases(session: Session) -> tuple[Database, ...]:
    found = session.names(
        "SELECT s.SCHEMA_NAME, COALESCE(SUM(t.DATA_LENGTH + t.INDEX_LENGTH), 0) FROM information_schema.SCHEMATA s"
        " LEFT JOIN information_schema.TABLES t ON BINARY t.TABLE_SCHEMA = BINARY s.SCHEMA_NAME"
        " GROUP BY BINARY s.SCHEMA_NAME"
    )
    return tuple(sorted(Database(ENGINE, name, int(size)) for name, size in found if is_owners(name)))


def is_owners(name: str) -> bool:
    """Whether a database is neither the server's nor ours."""
    return name not in SYSTEM and not OURS.fullmatch(name)


def schemas(session: Session, only: str = "") -> dict[str, Schema]:
    """Every database but the server's own and ours, by name; or one of them."""
    tables = _tables(session, only)
    routines, triggers, events = (
        _by_database(session, columns, source, only)
        for columns, source in (
            ("ROUTINE_SCHEMA, ROUTINE_TYPE, ROUTINE_NAME, ROUTINE_COMMENT", "ROUTINES"),
            (
                "TRIGGER_SCHEMA, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER, TRIGGER_NAME",
                "TRIGGERS",
            ),
            ("EVENT_SCHEMA, EVENT_NAME", "EVENTS"),
        )
    )
    comment = "SCHEMA_COMMENT" if _has_comments(session) else "''"
    found = session.names(
        f"SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, {comment}"
        " FROM information_schema.SCHEMATA"
    )
    return {
        name: Schema(
            *(name, charset, collation, note),
            tuple(tables[name]),
            tuple((kind.lower(), routine, comment) for kind, routine, comment in sorted(routines[name])),
            tuple((row[0], row[-1]) for row in sorted(triggers[name], key=_firing)),
            tuple(event for (event,) in sorted(events[name])),
        )
        for name, charset, collation, note in sorted(found)
        if is_owners(name) and only in ("", name)
    }


def _firing(trigger: tuple[str, ...]) -> tuple[str, str, str, int]:
    table, timing, event, place, _ = trigger
    return table, timing, event, int(place)


def _has_comments(session: Session) -> bool:
    where = "TABLE_SCHEMA = 'information_schema' AND TABLE_NAME = 'SCHEMATA' AND COLUMN_NAME = 'SCHEMA_COMMENT'"
    return bool(session.rows(f"SELECT 1 FROM information_schema.COLUMNS WHERE {where}"))


def _by_database(session: Session, columns: str, source: str, only: str) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    schema = columns.partition(",")[0]
    where = f" WHERE {schema} = {text(only)}" if only else ""
    for name, *rest in session.names(f"SELECT {columns} FROM information_schema.{source}{where}"):
        found[name].append(tuple(rest))
    return found


def _tables(session: Session, only: str) -> dict[str, list[Table]]:
    columns: dict[tuple[str, str], list[tuple[int, Column]]] = defaultdict(list)
    facts = "TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION, COLUMN_NAME, DATA_TYPE, EXTRA, COLLATION_NAME, COLUMN_TYPE"
    for database, rows in _by_database(session, f"{facts}, COLUMN_DEFAULT", "COLUMNS", only).items():
        for table, place, name, kind, *more in rows:
            columns[database, table].append((int(place), Column(name, kind.lower(), *more)))
    tables: dict[str, list[Table]] = defaultdict(list)
    facts = "TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_COLLATION, COALESCE(DATA_LENGTH, 0)"
    for database, rows in _by_database(session, facts, "TABLES", only).items():
        for name, kind, engine, collation, size in sorted(rows):
            own = tuple(column for _, column in sorted(columns[database, name], key=lambda pair: pair[0]))
            if kind != "TEMPORARY":
                tables[database].append(Table(database, name, kind, engine, collation, int(size), own))
    return tables


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object whose definition the server does not give."""

    kind: str
    name: str
    reason: str


def definitions(session: Session, schema: Schema) -> Iterator[Definition | Unreadable]:
    """Read the definition of everything in a database, in the order in which it can be made."""
    session.run(f"USE {quoted(schema.name)}")
    for table in schema.tables:
        if table.kind == "SEQUENCE":
            yield _read(session, "sequence", table.name)
    for table in schema.tables:
        if table.kind not in ("SEQUENCE", "VIEW"):
            yield _exact_table(session, table, _read(session, "table", table.name))
    for kind, name, comment in schema.routines:
        yield _exact_routine(comment, _read(session, kind, name))
    for table in schema.tables:
        if table.kind == "VIEW":
            yield _read(session, "view", table.name)
    for of_table, name in schema.triggers:
        yield _read(session, "trigger", name, of_table)
    for name in schema.events:
        yield _exact_event(session, schema.name, _read(session, "event", name))


def _read(session: Session, kind: str, name: str, table: str = "") -> Definition | Unreadable:
    try:
        row = session.rows(f"SHOW CREATE {kind.upper()} {quoted(name)}")[0]
        position = _position(session, name) if kind == "sequence" else None
    except (ServerError, IndexError) as exc:
        return Unreadable(kind, name, str(exc) or "the server does not show it")
    if kind in ("table", "sequence"):
        return Definition(kind, name, row[1] or b"", position=position)
    if kind == "view":
        return Definition(kind, name, row[1] or b"", "", decoded(row[2]), decoded(row[3]))
    zone = decoded(row[2]) if kind == "event" else ""
    content, client, connection, collation = row[3:7] if kind == "event" else row[2:6]
    if not content:
        return Unreadable(kind, name, "the server does not show it")
    made = (decoded(row[1]), decoded(client), decoded(connection), decoded(collation))
    return Definition(kind, name, content, *made, zone, table)


def _position(session: Session, name: str) -> tuple[int, int]:
    row = session.names(f"SELECT next_not_cached_value, cycle_count FROM {quoted(name)}")[0]
    return int(row[0]), int(row[1])


def _exact_table(session: Session, table: Table, read: Definition | Unreadable) -> Definition | Unreadable:
    if isinstance(read, Unreadable):
        return read
    statement = read.text
    for column in table.columns:
        if column.collation and "?" in column.full_type + column.default:
            shown = (column.full_type, column.default)
            statement = exact_column(session, statement, table.address, column.name, shown)
    return replace(read, text=statement)


def _exact_routine(comment: str, read: Definition | Unreadable) -> Definition | Unreadable:
    is_told = comment.isascii() and "\\" not in comment
    if isinstance(read, Unreadable) or is_told or read.kind not in ("procedure", "function"):
        return read
    return replace(read, comment=comment)


def _exact_event(session: Session, database: str, read: Definition | Unreadable) -> Definition | Unreadable:
    if isinstance(read, Unreadable):
        return read
    return replace(read, text=exact_event(session, read.text, database, read.name, read.client))
