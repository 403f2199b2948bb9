"""Load a saved database: into a scratch database first, counted, then in the place of the one that is there.

Takes a dump and a load. As long as the old tables lie aside, everything can be undone. A load that fails or is
interrupted is undone: it leaves the database as it was. Touches that database, the two beside it, and nothing else.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from typing import TypeGuard

from tklb.databases.dump_format import DumpFolder
from tklb.databases.filter import spell_item
from tklb.databases.mariadb import ENGINE, Login, accounts
from tklb.databases.mariadb.catalogue import list_schemas, list_tables
from tklb.databases.mariadb.connection import ServerConnection, ServerError, open_connection, quote_name, quote_text
from tklb.databases.mariadb.definitions import (
    PROGRAMS,
    Definition,
    SavedDefinitions,
    Unreadable,
    drop_definitions,
    load_definitions,
    read_definitions,
    show_definitions,
)
from tklb.databases.mariadb.load import swap
from tklb.databases.mariadb.load.compare_rows import LoadTarget
from tklb.databases.mariadb.load.load_rows import load_rows
from tklb.databases.mariadb.load.server_settings import put_settings_aside
from tklb.databases.mariadb.load.storage_engines import ENGINE_UNKNOWN, install_engines
from tklb.databases.mariadb.load.swap import Swap
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed, printable
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Progress
from tklb.model.databases import DatabaseLoad, SavedTable

__all__ = ["load_database"]

_NEXT_VALUE = "nextval("
_UNDO_SECONDS = 3600  # for one statement of an undo
_END_SECONDS = 600  # for a session that was ended: it may have to take back many rows
_REDO_STEP = 8 << 20  # bytes
_ABSENT = frozenset({1049, 1146})  # an unknown database or table
_NO_ENGINE = "its storage engine is not here; install its plugin and restore the table again"


@dataclass(slots=True)
class DatabaseLoading:  # mutable: each step notes here what an undo would have to put back
    """One load."""

    login: Login
    dump: DumpFolder  # of this database
    load: DatabaseLoad
    saved: SavedDefinitions
    report: DatabaseReport
    progress: Progress
    swap: Swap
    is_replacement: bool = True  # a database of that name is here
    properties: tuple[str, ...] = ()  # character set, collation and comment of the live database
    sequences: list[str] = field(default_factory=list)  # made in the live database ahead of time
    before: list[Definition] = field(default_factory=list)  # programs of the live database
    grants: list[str] = field(default_factory=list)  # on routines of the live database
    impossible: set[str] = field(default_factory=set)  # tables that this server cannot have
    waiting_views: list[tuple[Definition, str]] = field(default_factory=list)  # with the reason

    @property
    def item(self) -> str:
        return printable(spell_item(ENGINE, self.load.into))

    @property
    def tables(self) -> tuple[SavedTable, ...]:
        """The tables that come: all, or those that were asked for."""
        names = self.load.tables
        wanted = (table for table in self.load.saved.tables if names is None or table.name in names)
        return tuple(table for table in wanted if table.name not in self.impossible)


def load_database(
    login: Login, dump: DumpFolder, load: DatabaseLoad, progress: Progress, report: DatabaseReport
) -> DatabaseLoading:
    """Load one database. Raises DatabaseFailed, which says the object; the database is as it was then."""
    item = printable(spell_item(ENGINE, load.into))
    below = DumpFolder(dump.enter(load.saved.folder).folders, item)
    moves = swap.make_swap(load.into)
    loading = DatabaseLoading(login, below, load, read_definitions(below), report, progress, moves)
    try:
        with open_connection(login) as connection:
            swap.drop_leftovers(connection)
        with (
            put_settings_aside(login, _estimate_redo(loading)),
            open_connection(login) as connection,
            _undo_on_failure(loading, connection),
        ):
            _make_tables(loading, connection)
            _load_rows(loading)
            _put_in_place(loading, connection)
            _drop_others(loading, connection)
    except ServerError as exc:
        raise DatabaseFailed(item=item, reason=str(exc)) from exc
    return loading


def _estimate_redo(loading: DatabaseLoading) -> int:
    """How large InnoDB's log must be for the longest rows of the two tables that load side by side.

    A long row begins a file of its own, see row_files.py, so the size of the file is a bound.
    """
    path = loading.dump.path
    longest = sorted(max((path(name).stat().st_size for name in table.files), default=0) for table in loading.tables)
    return (sum(longest[-2:]) * 5 // 4 // _REDO_STEP + 2) * _REDO_STEP


def _drop_others(loading: DatabaseLoading, connection: ServerConnection) -> None:
    for name in (loading.swap.scratch, loading.swap.aside):
        with _report_failure(loading, f"{name} is left over"):
            swap.drop_database(connection, name)


@contextlib.contextmanager
def _report_failure(loading: DatabaseLoading, what: str) -> Iterator[None]:
    """Report a statement that the server refuses after the swap: it is no reason to undo a load that is good."""
    try:
        yield
    except ServerError as exc:
        if not exc.number:
            raise
        loading.report.skip(loading.load.into, "", f"{what}: {exc.discreet}")


# ---------------------------------------------------------------- into the scratch database


def _make_tables(loading: DatabaseLoading, connection: ServerConnection) -> None:
    saved = loading.saved
    loading.is_replacement = swap.has_database(connection, loading.load.into)
    for name in (loading.swap.scratch, loading.swap.aside):
        swap.create_database(connection, name, saved.charset, saved.collation)
    wanted = {table.name for table in loading.tables}
    tables = [each for each in saved.select("table") if each.name in wanted and saved.tables[each.name].has_rows]
    sequences = saved.select("sequence") if loading.load.tables is None else ()
    if any(_NEXT_VALUE.encode() in each.text for each in tables):
        _make_sequences_first(loading, connection)
    for engine in install_engines(connection, loading.load.saved.needs):
        loading.report.note(f"the plugin of the storage engine {engine} was installed for {loading.item}")
    connection.run(f"USE {quote_name(loading.swap.scratch)}")
    for each in (*sequences, *tables):
        _make_one(loading, connection, each)


def _make_one(loading: DatabaseLoading, connection: ServerConnection, definition: Definition) -> None:
    old, new = (f"{_NEXT_VALUE}{quote_name(name)}.".encode() for name in (loading.saved.name, loading.load.into))
    try:
        connection.run(definition.text.replace(old, new))
        if definition.position:
            value, round_ = definition.position
            connection.fetch_rows(f"SELECT SETVAL({quote_name(definition.name)}, {value}, 0, {round_})")
    except ServerError as exc:
        if not exc.number:
            raise
        has_no_engine = exc.number in ENGINE_UNKNOWN
        # what it needs may come with another database; and what is here is better than half of it
        if exc.number in _ABSENT or (loading.is_replacement and not has_no_engine):
            item = printable(spell_item(ENGINE, loading.load.into, definition.name))
            raise DatabaseFailed(item=item, reason=f"it cannot be made here: {exc}") from exc
        # the others do not need it, and what needs it is reported when it is refused in its turn
        loading.impossible.add(definition.name)
        reason = _NO_ENGINE if has_no_engine else "it cannot be made here"
        loading.report.skip(loading.load.into, definition.name, f"{reason}: {exc}")


def _make_sequences_first(loading: DatabaseLoading, connection: ServerConnection) -> None:
    """Make the sequences that a column's default asks for by their final name."""
    into = loading.load.into
    if not loading.is_replacement:
        swap.create_database(connection, into, loading.saved.charset, loading.saved.collation)
    there = swap.list_kinds(connection, into)
    connection.run(f"USE {quote_name(into)}")
    for each in loading.saved.select("sequence"):
        if each.name not in there:
            connection.run(each.text)
            loading.sequences.append(each.name)


def _load_rows(loading: DatabaseLoading) -> None:
    formats = loading.saved.tables
    tables = [(table, formats[table.name]) for table in loading.tables if table.rows]
    scratch = loading.swap.scratch
    with open_connection(loading.login) as connection:
        connection.run("SET character_set_results = binary")
        made = {table.name: table for table in list_tables(connection, scratch)[scratch]} if tables else {}
    differences = None if loading.is_replacement else loading.report
    target = LoadTarget(loading.login, scratch, loading.load.into, loading.dump, made, differences)
    load_rows(target, tables, loading.progress, loading.report)


# ---------------------------------------------------------------- in the place of what is there


def _put_in_place(loading: DatabaseLoading, connection: ServerConnection) -> None:
    into, saved = loading.load.into, loading.saved
    if not swap.has_database(connection, into):
        swap.create_database(connection, into, saved.charset, saved.collation)
    if loading.load.tables is None:
        loading.grants = accounts.list_routine_grants(connection, into, loading.report)
    loading.before = list(_list_programs_here(loading))
    loading.swap = _choose_moves(loading, connection)
    drop_definitions(connection, into, [each for each in loading.before if each.kind in ("trigger", "view")])
    ended = swap.swap_database(connection, loading.swap, loading.login.lock_seconds)
    if ended:
        loading.report.note(f"{ended} sessions that used {printable(into)} were ended")
    _make_programs(loading, connection)
    swap.redirect_foreign_keys(connection, loading.swap, loading.report)


def _list_programs_here(loading: DatabaseLoading) -> Iterator[Definition]:
    """The programs of the live database that have to make room: all, or those of single tables."""
    with open_connection(loading.login) as connection:
        connection.run("SET character_set_results = binary")
        here = list_schemas(connection, loading.load.into).get(loading.load.into)
        loading.properties = (here.charset, here.collation, here.comment) if here else ()
        for each in show_definitions(connection, here) if here else ():
            if _has_to_make_room(each, loading):
                yield each
        # The server ends a session a while after its client: nobody must take this one for a user of the database.
        connection.run(f"USE {quote_name(loading.swap.scratch)}")


def _has_to_make_room(each: Definition | Unreadable, loading: DatabaseLoading) -> TypeGuard[Definition]:
    if each.kind in ("table", "sequence"):
        return False
    if isinstance(each, Unreadable):
        item = printable(spell_item(ENGINE, loading.load.into, each.name))
        raise DatabaseFailed(item=item, reason=f"{each.kind}: {each.reason}")
    only = loading.load.tables
    if only is None:
        return True
    return (each.kind == "trigger" and each.table in only) or (each.kind == "view" and each.name in only)


def _choose_moves(loading: DatabaseLoading, connection: ServerConnection) -> Swap:
    here = {name for name, kind in swap.list_kinds(connection, loading.load.into).items() if kind != "VIEW"}
    new = set(swap.list_kinds(connection, loading.swap.scratch))
    without_rows = {table.name for table in loading.tables if table.rows is None}
    stays = here & (without_rows | set(loading.load.kept) | loading.impossible)
    out = here - stays if loading.load.tables is None else here & new
    return replace(loading.swap, moved_in=tuple(sorted(new - stays)), moved_out=tuple(sorted(out)))


def _make_programs(loading: DatabaseLoading, connection: ServerConnection) -> None:
    into, saved, only = loading.load.into, loading.saved, loading.load.tables
    programs: Sequence[Definition] = saved.select(*PROGRAMS)
    if only is None:
        with _report_failure(loading, "what was here could not be dropped"):
            drop_definitions(connection, into, loading.before)
        with _report_failure(loading, "its character set could not be set"):
            _set_properties(connection, into, saved.charset, saved.collation, saved.comment)
        _make_rowless(loading, connection)
    else:
        programs = [each for each in saved.select("trigger") if each.table in only]
    with _report_failure(loading, "its views and programs could not all be made"):
        loading.waiting_views = load_definitions(connection, into, programs, loading.report)
    accounts.restore_grants(connection, into, loading.grants, loading.report)


def _set_properties(connection: ServerConnection, name: str, charset: str, collation: str, comment: str) -> None:
    connection.run(f"ALTER DATABASE {quote_name(name)} CHARACTER SET {charset} COLLATE {collation}")
    with contextlib.suppress(ServerError):  # only MariaDB has comments on databases
        connection.run(f"ALTER DATABASE {quote_name(name)} COMMENT {quote_text(comment)}")


def _list_rowless(loading: DatabaseLoading) -> list[Definition]:
    """Tables that are made of other tables, which have to be in their place already."""
    return [each for each in loading.saved.select("table") if not loading.saved.tables[each.name].has_rows]


def _make_rowless(loading: DatabaseLoading, connection: ServerConnection) -> None:
    connection.run(f"USE {quote_name(loading.load.into)}")
    for each in _list_rowless(loading):
        try:
            connection.run(each.text)
        except ServerError as exc:
            loading.report.skip(loading.load.into, each.name, f"it cannot be made here: {exc}")


# ---------------------------------------------------------------- and back


@contextlib.contextmanager
def _undo_on_failure(loading: DatabaseLoading, connection: ServerConnection) -> Iterator[None]:
    """Put everything back where the block fails, whatever the reason."""
    try:
        yield
    except BaseException as exc:
        connection.close()
        loading.report = DatabaseReport(ENGINE)  # a load that failed reports only the failure
        try:
            with open_connection(loading.login, seconds=_UNDO_SECONDS) as fresh:
                _undo(loading, fresh, connection.id)
        except ServerError as worse:
            reason = f"{exc}; then it could not be put back: {worse}; its tables are in {loading.swap.aside}"
            raise DatabaseFailed(item=loading.item, reason=reason) from exc
        if lost := [f"{printable(each.item)}: {each.reason}" for each in loading.report.skipped]:
            reason = f"{exc or 'interrupted'}; what was there could not all be put back: {'; '.join(lost)}"
            raise DatabaseFailed(item=loading.item, reason=reason) from exc
        raise


def _undo(loading: DatabaseLoading, connection: ServerConnection, ended: int) -> None:
    _wait_for_end(connection, ended)
    moves, into = loading.swap, loading.load.into
    if not loading.is_replacement:
        swap.drop_database(connection, into)
        _drop_others(loading, connection)
        return
    if swap.is_swapped(connection, moves):
        drop_definitions(connection, into, loading.saved.select(*PROGRAMS))
        for each in _list_rowless(loading) if loading.load.tables is None else ():
            connection.run(f"DROP TABLE IF EXISTS {quote_name(into, each.name)}")
        connection.run(f"RENAME TABLE {moves.back}")
        swap.redirect_foreign_keys(connection, moves, loading.report)
    if loading.properties:
        _set_properties(connection, into, *loading.properties)
    if loading.before:
        drop_definitions(connection, into, loading.before)
        for view, reason in load_definitions(connection, into, loading.before, loading.report):
            loading.report.skip(into, view.name, f"view: {reason}")
        accounts.restore_grants(connection, into, loading.grants, loading.report)
    for name in loading.sequences:
        connection.run(f"DROP SEQUENCE IF EXISTS {quote_name(into, name)}")
    _drop_others(loading, connection)


def _wait_for_end(connection: ServerConnection, number: int) -> None:
    """End a session and wait for it: its last statement must not take effect later."""
    with contextlib.suppress(ServerError):
        connection.run(f"KILL {number}")
        until = time.monotonic() + _END_SECONDS
        while time.monotonic() < until and connection.fetch_rows(
            f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {number}"
        ):
            connection.run("DO SLEEP(0.05)")


# ---------------------------------------------------------------- what else should be known


def describe_programs(connection: ServerConnection, loading: DatabaseLoading) -> list[str]:
    """Notes on definers that are no account here, and on programs that still name the database they came from."""
    here = connection.fetch_texts("SELECT User, Host FROM mysql.user")
    names = {f"{user}@{host}" for user, host in here} | {user for user, host in here if not host}
    into = loading.load.into
    programs = loading.saved.select(*PROGRAMS)
    missing: dict[str, list[str]] = {}
    for each in programs:
        if each.definer and each.definer not in names:
            missing.setdefault(each.definer, []).append(f"{each.kind} {each.name}")
    notes = [
        f"{printable(definer)} is no account here, yet {printable(', '.join(of))} of {printable(into)} would run as it"
        for definer, of in sorted(missing.items())
    ]
    if into == loading.saved.name:
        return notes
    old = loading.saved.name.encode("utf-8", "surrogateescape")
    naming = [f"{each.kind} {each.name}" for each in programs if old in each.text]
    label = printable(loading.saved.name)
    return [*notes, *(f"{printable(name)} of {printable(into)} may still name {label}" for name in naming)]
