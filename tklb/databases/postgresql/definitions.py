"""Definitions: SQL that pg_dump gives, and the properties of a database that it leaves out.

    database.json       properties, tables and their columns, the needs of the definitions
    pre-data.sql        pg_dump's section before the rows
    large-objects.sql   the large objects, empty, with owners, privileges and comments
    rows/...            the rows as COPY gives them; large objects' pages are a table of their own
    sequences.sql       where the sequences are
    post-data.sql       pg_dump's section after the rows: keys, indexes, triggers, ...

Out of the server: dump/pg_dump asks for the sections, `dump_definitions` writes them. And back: `read_definitions`
reads and checks database.json, `load_definitions` runs a script statement by statement: no client program ever reads
it. Source: pg_dump(1).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tklb.databases.dump_format import DumpFolder, write_file
from tklb.databases.filter import spell_item
from tklb.databases.postgresql import ENGINE
from tklb.databases.postgresql.accounts import read_grants
from tklb.databases.postgresql.catalogue import (
    Column,
    Properties,
    Table,
)
from tklb.databases.postgresql.connection import (
    ServerConnection,
    ServerError,
    quote_text,
)
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import SavedDatabase, SavedTable

__all__ = ["SavedDefinitions", "dump_definitions", "load_definitions", "read_definitions"]

DETAILS = "database.json"
PRE_DATA, LARGE_OBJECTS, SEQUENCES, POST_DATA = "pre-data.sql", "large-objects.sql", "sequences.sql", "post-data.sql"
Result = TypeVar("Result")
_TEXT = ("utf-8", "surrogateescape")
_TOGETHER = 50  # statements sent at once: one transaction, so that not all its locks are held to the end
_UNDEFINED = ("42P01", "42703", "42883", "42704", "3F000")  # table, column, function, object, schema
_MISSING_SCHEMA = ("42P01", "42883", "42704")  # errors that a name without its schema gives
_REFRESH = "MATERIALIZED VIEW DATA "
_TOKEN = re.compile(
    rb"""(?P<skip> --[^\n]* | '(?:[^']|'')*' | "(?:[^"]|"")*" | [Ee]'(?:[^'\\]|\\.|'')*'
           | (?P<dollar>\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$) .*? (?P=dollar) )
       | (?P<comment> /\*) | (?P<word> [A-Za-z_\x80-\xff][\w$\x80-\xff]*) | (?P<sign> [();])""",
    re.DOTALL | re.VERBOSE,
)
_HEADER = re.compile(rb"^-- (?:Data for )?Name: (.*); Type: ([^;]*); Schema: (.*); Owner: (.*)$", re.MULTILINE)
_VERB = re.compile(rb"[A-Za-z]+(?:\s+SYSTEM\b)?", re.IGNORECASE)
_VERBS = frozenset({"SET", "SELECT", "CREATE", "ALTER", "COMMENT", "GRANT", "REVOKE", "SECURITY", "REFRESH", "RESET"})
_ROUTINE = re.compile(rb"CREATE\s+(OR\s+REPLACE\s+)?(FUNCTION|PROCEDURE)\b")


@dataclass(frozen=True, slots=True)
class SavedDefinitions:
    """The contents of database.json. `tables` are in the order of the saved database's.

    `has_gaps`: the definitions of some tables are missing, since somebody had them locked.
    """

    properties: Properties
    roles: tuple[str, ...]
    extensions: tuple[str, ...]
    has_public: bool
    has_gaps: bool
    page_size: int
    tables: tuple[tuple[Table, SavedTable], ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """`text` is the statement with the comments before it, `about` what the last header before it names.

    `schema` is the one that it is in, "" for none.
    """

    text: bytes
    about: str
    schema: str = ""
    verb: str = ""  # its first word, or two of them
    kind: str = ""
    owner: str = ""  # "-" for none

    @property
    def evaluates(self) -> str:
        """What of the database's own the server may call for it, as the one who sends it: functions, domains or casts.

        Empty for none: the server itself makes indexes and fills views as their owner.
        """
        if self.kind == "CHECK CONSTRAINT":
            return "" if b"NOT VALID" in self.text else "functions"
        if self.kind == "TABLE ATTACH" or (self.kind == "AGGREGATE" and b"INITCOND" in self.text.upper()):
            return "domains"  # in the bounds of a partition and in the first value of an aggregate
        return "casts" if self.kind == "FK CONSTRAINT" else ""

    @property
    def needs(self) -> tuple[str, str, str]:
        """What it evaluates, for which owner, and the schema that it creates something in."""
        return self.evaluates, self.owner, self.schema if self.kind == "AGGREGATE" else ""

    @property
    def is_definition(self) -> bool:
        """Whether it is of the kinds that pg_dump writes. A COPY or DO could start a program on the server."""
        return self.verb in _VERBS


def dump_definitions(folder: Path, pre_data: bytes, post_data: bytes) -> None:
    """Write pg_dump's sections into the folder of a database."""
    write_file(folder / PRE_DATA, pre_data)
    write_file(folder / POST_DATA, post_data)


def read_definitions(dump: DumpFolder, saved: SavedDatabase) -> SavedDefinitions:
    """Read database.json. Raises DatabaseFailed where it is not as it should be."""
    try:
        value = dump.read_json(DETAILS)
        tables = tuple(_read_table(one) for one in value["tables"])
        if [table.full_name for table in tables] != [table.name for table in saved.tables]:
            raise ValueError("it has other tables than the server's list")  # noqa: TRY301 - one way out
        return SavedDefinitions(
            properties=_read_properties(value["properties"]),
            roles=tuple(map(str, value["roles"])),
            extensions=tuple(map(str, value["extensions"])),
            has_public=bool(value["has_public"]),
            has_gaps=bool(value["has_gaps"]),
            page_size=int(value["page_size"]),
            tables=tuple(zip(tables, saved.tables, strict=True)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise DatabaseFailed(item=dump.item, reason=f"{DETAILS} of its dump is not as it should be: {exc}") from exc


def _read_table(value: Mapping[str, Any]) -> Table:
    columns = tuple(Column(str(name), str(kind)) for name, kind in value["columns"])
    return Table("", str(value["schema"]), str(value["table"]), 0, str(value["condition"]), columns)


def _read_properties(value: Mapping[str, Any]) -> Properties:
    grants = value["grants"]
    return Properties(
        **{name: str(value[name]) for name in ("encoding", "collate", "ctype", "provider", "locale", "rules", "owner")},
        limit=int(value["limit"]),
        is_template=bool(value["is_template"]),
        comment=None if value["comment"] is None else str(value["comment"]),
        grants=None
        if grants is None
        else read_grants([[g["grantor"], g["grantee"], g["privilege"], g["grantable"]] for g in grants]),
        settings=tuple((str(role), str(name), str(text)) for role, name, text in value["settings"]),
    )


@dataclass(frozen=True, slots=True)
class ScriptTarget:
    """How a script is run. `database` is the database's final name, which reports use.

    `path` is the search path of those who use the database. A tolerant target skips what hangs on a missing definition.
    """

    database: str
    path: str
    is_tolerant: bool = False
    choose: Callable[[str, str, str], ServerConnection] | None = None  # who runs what evaluates what of which owner

    @property
    def item(self) -> str:
        return spell_item(ENGINE, self.database).decode(*_TEXT)


def load_definitions(connection: ServerConnection, script: bytes, target: ScriptTarget, report: DatabaseReport) -> None:
    """Run a script of a dump. Raises DatabaseFailed, which says the object that the server refuses.

    A materialized view that cannot be filled (it may look at another server, say) is reported as skipped.
    """
    batch: list[Statement] = []
    for statement in split_script(script):
        if not statement.is_definition:
            reason = f"{statement.about}: its dump holds {statement.verb or 'no'} statement, which defines nothing"
            raise DatabaseFailed(item=target.item, reason=reason)
        if statement.evaluates and target.choose:
            # the answer depends on what is defined by now
            _run_batch(connection, batch, target, report)
            _run_one(target.choose(*statement.needs), statement, target, report)
            batch = []
            continue
        batch.append(statement)
        if len(batch) == _TOGETHER:
            _run_batch(connection, batch, target, report)
            batch = []
    _run_batch(connection, batch, target, report)


def _run_batch(
    connection: ServerConnection, batch: Sequence[Statement], target: ScriptTarget, report: DatabaseReport
) -> None:
    try:
        connection.run(b"".join(statement.text for statement in batch))
    except ServerError:
        # all of them are undone: one by one, the one that fails is seen
        for statement in batch:
            _run_one(connection, statement, target, report)


def _run_one(connection: ServerConnection, statement: Statement, target: ScriptTarget, report: DatabaseReport) -> None:
    try:
        retry_with_path(connection, statement.schema, target.path, lambda: connection.run(statement.text))
    except ServerError as exc:
        reason = f"{statement.about}: {exc}"
        if not (target.is_tolerant and exc.state in _UNDEFINED) and not statement.about.startswith(_REFRESH):
            raise DatabaseFailed(item=target.item, reason=reason) from exc
        report.skip(target.database, "", reason)


def retry_with_path(connection: ServerConnection, schema: str, path: str, step: Callable[[], Result]) -> Result:
    """Do a step; once more with a search path where a function of its own uses names without their schema.

    Definitions say all schemas, but a function that a check or an index calls may not. It relies on the path of those
    who use the database. The path is the schema that the object is in, then `path`.
    """
    try:
        return step()
    except ServerError as exc:
        if exc.state not in _MISSING_SCHEMA or not schema or not connection.is_idle:
            raise
        first = exc
    connection.run(f"SET search_path TO {quote_text(schema)}, {path}")
    try:
        return step()
    except ServerError:
        raise first from None
    finally:
        connection.run("SET search_path TO ''")


# ---------------------------------------------------------------- a script, statement by statement
#
# A statement ends where the server's own grammar ends it: quotes, comments, parentheses and the bodies of SQL functions
# are passed over whole (psqlscan.l), so that a comment inside a function's body is no header.


def split_script(script: bytes) -> Iterator[Statement]:
    """Cut a script. The rest after the last semicolon is no statement where it is comments only."""
    begin, about, inside, kind, owner = 0, "the settings", "", "", ""
    for first, end in _find_ends(script):
        headers = _HEADER.findall(script[begin:first])
        if headers:
            name, kind, schema, owner = (part.decode("utf-8", "backslashreplace") for part in headers[-1])
            inside = "" if schema == "-" else schema
            about = f"{kind} {schema}.{name}" if inside else f"{kind} {name}"
        verb = _VERB.match(script, first)
        yield Statement(script[begin:end], about, inside, verb[0].upper().decode() if verb else "", kind, owner)
        begin = end


def _find_ends(script: bytes) -> Iterator[tuple[int, int]]:
    """Where each statement's first word and its end are."""
    first, place, depth = -1, 0, _Depth()
    while found := _TOKEN.search(script, place):
        place = found.end()
        if found["comment"]:
            place = _find_comment_end(script, place)
        elif found["sign"] == b";" and depth.is_none():
            yield (first if first >= 0 else found.start()), place
            first, depth = -1, _Depth()
        elif found["word"] or found["sign"]:
            first = found.start() if first < 0 else first
            depth.note(found[0].upper(), script, first)


class _Depth:
    """How deep in parentheses and in the body of an SQL function a statement is."""

    def __init__(self) -> None:
        self._parentheses = self._blocks = self._words = 0
        self._is_routine = False

    def is_none(self) -> bool:
        return self._parentheses <= 0 and self._blocks <= 0

    def note(self, token: bytes, script: bytes, first: int) -> None:
        self._words += 1
        if token in b"()":
            self._parentheses += 1 if token == b"(" else -1
        elif self._words == 1:
            self._is_routine = bool(_ROUTINE.match(script, first))
        elif self._is_routine and self._parentheses == 0:
            self._note_block(token)

    def _note_block(self, word: bytes) -> None:
        if word == b"BEGIN" or (word == b"CASE" and self._blocks):
            self._blocks += 1
        elif word == b"END" and self._blocks:
            self._blocks -= 1


def _find_comment_end(script: bytes, place: int) -> int:
    depth = 1
    for sign in re.finditer(rb"/\*|\*/", script[place:]):
        depth += 1 if sign[0] == b"/*" else -1
        if not depth:
            return place + sign.end()
    return len(script)
