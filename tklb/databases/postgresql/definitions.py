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

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from tklb.base.concurrency import run_until_ended
from tklb.databases.dump_format import DumpFolder, write_file
from tklb.databases.filter import spell_item
from tklb.databases.postgresql import ENGINE, MONETARY
from tklb.databases.postgresql.accounts import read_grants
from tklb.databases.postgresql.catalogue import (
    Column,
    Properties,
    Table,
)
from tklb.databases.postgresql.cluster.tablespaces import RelationPlace, parse_places
from tklb.databases.postgresql.connection import (
    ServerConnection,
    ServerError,
    quote_text,
)
from tklb.databases.postgresql.load.weaken import weaken
from tklb.databases.postgresql.script import KEY, Entry, Statement, find_indexed, read_entries
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
_UNKNOWN_SETTING = "42704"
_ENDS_WORK = ("53", "57")  # classes of errors: no room or no memory, or an administrator ended it
_ABOUT_OTHERS = ("ACL", "COMMENT", "SECURITY LABEL", "")
_SHAPING = ("default_table_access_method", "default_tablespace")


@dataclass(frozen=True, slots=True)
class SavedDefinitions:
    """The contents of database.json. `tables` are in the order of the saved database's.

    `versions` are those of extensions, `monetary` is the locale of money: a dump of before says none. `space` is the
    tablespace of the database, `places` are its relations in others.
    """

    properties: Properties
    roles: tuple[str, ...]
    extensions: tuple[str, ...]
    has_public: bool
    page_size: int
    tables: tuple[tuple[Table, SavedTable], ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    monetary: str = ""
    space: str = ""
    places: tuple[RelationPlace, ...] = ()


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
            page_size=int(value["page_size"]),
            tables=tuple(zip(tables, saved.tables, strict=True)),
            versions={str(name): str(version) for name, version in value.get("extension_versions", {}).items()},
            monetary=MONETARY if value.get("lc_monetary") == MONETARY else "",
            space=str(value.get("tablespace", "")),
            places=parse_places(value.get("places", ())),
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

    `path` is the search path of those who use the database. `versions` are those that extensions are to have.
    """

    database: str
    path: str
    versions: Mapping[str, str] = field(default_factory=dict)
    choose: Callable[[str, str, str], ServerConnection] | None = None  # who runs what evaluates what of which owner

    @property
    def item(self) -> str:
        return spell_item(ENGINE, self.database).decode(*_TEXT)


@dataclass(frozen=True, slots=True)
class RefusedEntry:
    """A definition that the server refuses."""

    entry: Entry
    error: ServerError

    @property
    def reason(self) -> str:
        return f"{self.entry.first.kind}: {self.error}".removeprefix(": ")

    @property
    def hangs_on_another(self) -> bool:
        """Whether it is about an object only, and that one is not here: it has its own refusal."""
        return self.entry.first.kind in _ABOUT_OTHERS and self.error.state in _UNDEFINED


def report_refusals(refusals: Iterable[RefusedEntry], target: ScriptTarget, report: DatabaseReport) -> None:
    """Report the definitions that no round could bring, each as an item of its database."""
    names: set[str] = set()
    for refusal in refusals:
        name = refusal.entry.first.full_name
        if not refusal.hangs_on_another and (name not in names or refusal.error.state not in _UNDEFINED):
            report.skip(target.database, name, refusal.reason)
            names.add(name)


def make_indexes(
    connections: Sequence[ServerConnection], script: bytes, target: ScriptTarget, tables: Sequence[Table]
) -> tuple[Entry, ...]:
    """Make the keys and indexes of some tables, by all connections side by side; give the rest of the script.

    What the server refuses is part of the rest. Nobody else may change the tables meanwhile: nothing limits a wait.
    Raises DatabaseFailed where a connection breaks.
    """
    entries = tuple(read_entries(script))
    keys: dict[bytes, list[Entry]] = {table.sql.encode(*_TEXT): [] for table in tables}
    others: dict[bytes, list[Entry]] = {name: [] for name in keys}
    for entry in entries:
        name = find_indexed(entry)
        (keys if entry.first.kind == KEY else others).get(name, []).append(entry)
    made = _make_units(connections, keys.values(), target)  # a key locks its table against others
    made |= _make_units(connections, [[entry] for some in others.values() for entry in some], target)
    return tuple(entry for entry in entries if id(entry) not in made)


def _make_units(
    connections: Sequence[ServerConnection], units: Iterable[Sequence[Entry]], target: ScriptTarget
) -> set[int]:
    """Make units side by side, the entries of one in their order; give the identities of the entries that came."""
    made: set[int] = set()
    waiting: SimpleQueue[Sequence[Entry]] = SimpleQueue()
    for unit in units:
        waiting.put(unit)

    def work_off(connection: ServerConnection) -> None:
        trial = _Trial(connection, target, DatabaseReport(ENGINE))
        connection.run("SET lock_timeout = 0")
        with suppress(Empty):
            while True:
                made.update(id(entry) for entry in waiting.get_nowait() if trial.make(entry))
        connection.run(f"SET lock_timeout = '{connection.login.lock_seconds}s'")

    def cancel() -> None:
        with suppress(Empty):
            while True:
                waiting.get_nowait()
        for connection in connections:
            connection.cancel()

    run_until_ended([partial(work_off, each) for each in connections], cancel)
    return made


def load_definitions(
    connection: ServerConnection,
    script: bytes | Sequence[Entry],
    target: ScriptTarget,
    report: DatabaseReport,
    left: Iterable[RefusedEntry] = (),
) -> tuple[RefusedEntry, ...]:
    """Run a script of a dump, or some entries of one, and what is left of those before; give what the server refuses.

    They are tried in as many rounds as make progress, then in a weaker form, which is reported. Raises DatabaseFailed
    where the dump is not as it should be, and where the server ends the work.
    """
    return _Trial(connection, target, report).run(script, left)


class _Trial:
    """One script, all at once where the server takes it, else entry by entry."""

    def __init__(self, connection: ServerConnection, target: ScriptTarget, report: DatabaseReport) -> None:
        self._connection, self._target, self._report = connection, target, report

    def make(self, entry: Entry) -> bool:
        """Run one entry that evaluates nothing; say whether the server took it."""
        self._check(entry)
        return self._send(self._connection, entry.first.schema, entry.text) is None

    def run(self, script: bytes | Sequence[Entry], left: Iterable[RefusedEntry]) -> tuple[RefusedEntry, ...]:
        refusals = list(left)
        late: list[Entry] = []
        batch: list[Entry] = []
        for entry in read_entries(script) if isinstance(script, bytes) else script:
            self._check(entry)
            if entry.is_event_trigger:  # they could refuse the rounds
                late.append(entry)
            elif self._needs_another(entry):
                refusals += [*self._run_batch(batch), *self._try(entry)]
                batch = []
            else:
                batch.append(entry)
            if len(batch) == _TOGETHER:
                refusals += self._run_batch(batch)
                batch = []
        refusals += self._run_batch(batch)
        return (*self._repeat(refusals), *self._run_batch(late))

    def _check(self, entry: Entry) -> None:
        for statement in entry.statements:
            if not statement.is_definition:
                reason = f"{statement.label}: its dump holds {statement.verb or 'no'} statement, which defines nothing"
                raise DatabaseFailed(item=self._target.item, reason=reason)

    def _needs_another(self, entry: Entry) -> bool:
        """Whether another session may have to run it: which one, depends on what is defined by then."""
        return entry.has_evaluation and self._target.choose is not None

    def _run_batch(self, batch: Sequence[Entry]) -> list[RefusedEntry]:
        if not batch or self._send(self._connection, "", b"".join(self._pin(entry).text for entry in batch)) is None:
            return []
        # all of them are undone: one by one, those that the server refuses are seen
        return [refusal for entry in batch for refusal in self._try(entry)]

    def _repeat(self, refusals: list[RefusedEntry]) -> list[RefusedEntry]:
        """Try again what was refused, as long as that brings something, at the end in a weaker form."""
        while refusals:
            again = [each for refusal in refusals for each in self._try(refusal.entry)]
            if len(again) < len(refusals):
                refusals = again
                continue
            weakened = [self._weaken(refusal) for refusal in again]
            refusals = [each for _, rest in weakened for each in rest]
            if not any(is_new for is_new, _ in weakened):
                break
        return refusals

    def _weaken(self, refusal: RefusedEntry) -> tuple[bool, list[RefusedEntry]]:
        """Whether it came in a weaker form; and what is still to come of it."""
        weaker = weaken(self._connection, refusal.entry, self._run)
        if weaker is None:
            return False, [refusal]
        for text in weaker.reports:
            self._report.skip(self._target.database, refusal.entry.first.full_name, f"{text}: {refusal.error}")
        return True, [RefusedEntry(entry, refusal.error) for entry in weaker.later]

    def _try(self, entry: Entry) -> list[RefusedEntry]:
        """Run one entry, whole or in its parts."""
        error = self._run(entry)
        if error is None or (entry.first.is_setting and error.state == _UNKNOWN_SETTING):
            return []
        first, *rest = entry.cut()
        if not rest:
            return [RefusedEntry(entry, error)]
        if not entry.is_list and (main := self._run(first)):
            return [RefusedEntry(entry, main)]
        return [each for part in ((first, *rest) if entry.is_list else rest) for each in self._try(part)]

    def _run(self, entry: Entry) -> ServerError | None:
        schema = entry.first.schema
        if not self._needs_another(entry):
            pinned = self._pin(entry)
            error = self._send(self._connection, schema, pinned.text)
            return self._send(self._connection, schema, entry.text) if error and pinned != entry else error
        for statement in entry.statements:
            try:
                chosen = self._choose(statement)
            except ServerError as exc:
                return exc
            if error := self._send(chosen, schema, statement.text):
                return error
        return None

    def _choose(self, statement: Statement) -> ServerConnection:
        choose = self._target.choose
        return choose(*statement.needs) if choose and statement.evaluates else self._connection

    def _pin(self, entry: Entry) -> Entry:
        """An extension comes with the version that it had."""
        version = self._target.versions.get(entry.first.name) if entry.first.kind == "EXTENSION" else None
        if not version:
            return entry
        return entry.replace_text(
            entry.first.text.removesuffix(b";") + f" VERSION {quote_text(version)};".encode(*_TEXT)
        )

    def _send(self, connection: ServerConnection, schema: str, text: bytes) -> ServerError | None:
        try:
            retry_with_path(connection, schema, self._target.path, lambda: connection.run(text))
        except ServerError as exc:
            if not connection.is_open or exc.state.startswith(_ENDS_WORK):
                raise DatabaseFailed(item=self._target.item, reason=str(exc)) from exc
            return exc
        return None


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
