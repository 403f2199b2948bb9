"""Load a saved database: into a scratch database first, counted, then in the place of the one that is there.

Takes a dump and where it goes. As long as the old tables lie aside everything can be taken back, and is: a load that
fails or is interrupted leaves the database as it was. Touches that database, the two beside it, and nothing else.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tklb.databases.dump_format import DumpFolder
from tklb.databases.filter import spell_item
from tklb.databases.mariadb import accounts, programs, stored, swap
from tklb.databases.mariadb.catalogue import ENGINE, Definition, Unreadable, definitions, schemas
from tklb.databases.mariadb.fill import Filling
from tklb.databases.mariadb.said import Notes
from tklb.databases.mariadb.session import Login, ServerError, Session, quoted, text
from tklb.databases.mariadb.stored import Stored
from tklb.databases.mariadb.swap import Swap
from tklb.errors import DatabaseFailed, printable
from tklb.model.callbacks import Progress
from tklb.model.databases import DatabaseLoad, SavedTable

_NEXT_VALUE = "nextval("


@dataclass(slots=True)
class Loading:
    """One load. `undone` says what there was before, to be put back."""

    login: Login
    dump: DumpFolder  # of this database
    load: DatabaseLoad
    stored: Stored
    said: Notes
    progress: Progress
    swap: Swap
    was_there: bool = True
    looked: tuple[str, ...] = ()  # character set, collation and comment of the live database
    forerunners: list[str] = field(default_factory=list)  # sequences made in the live database ahead of time
    before: list[Definition] = field(default_factory=list)  # programs of the live database
    grants: list[str] = field(default_factory=list)  # on routines of the live database
    waiting: list[tuple[Definition, str]] = field(default_factory=list)  # views that could not be made, and why

    @property
    def wanted(self) -> tuple[SavedTable, ...]:
        names = self.load.tables
        return tuple(table for table in self.load.saved.tables if names is None or table.name in names)


def load_database(login: Login, dump: DumpFolder, load: DatabaseLoad, progress: Progress, said: Notes) -> Loading:
    """Raises DatabaseFailed, naming the object; the database is as it was then."""
    item = printable(spell_item(ENGINE, load.into))
    below = DumpFolder(dump.below(load.saved.folder).folders, item)
    names = swap.new_names()
    loading = Loading(login, below, load, stored.read(below), said, progress, Swap(load.into, *names))
    try:
        with login.open() as session:
            swap.drop_left_over(session)
            with _undoing(loading, session):
                _make_tables(loading, session)
                _fill(loading)
                _put_in_place(loading, session)
                swap.drop_databases(session, names)
    except ServerError as exc:
        raise DatabaseFailed(item=item, reason=str(exc)) from exc
    return loading


# ---------------------------------------------------------------- into the scratch database


def _make_tables(loading: Loading, session: Session) -> None:
    kept = loading.stored
    loading.was_there = bool(_schema_is_there(session, loading.load.into))
    for name in (loading.swap.scratch, loading.swap.aside):
        swap.make_database(session, name, kept.charset, kept.collation)
    wanted = {table.name for table in loading.wanted}
    tables = [each for each in kept.of("table") if each.name in wanted and kept.tables[each.name].has_rows]
    sequences = kept.of("sequence") if loading.load.tables is None else ()
    if any(_NEXT_VALUE.encode() in each.text for each in tables):
        _run_ahead(loading, session)
    session.run(f"USE {quoted(loading.swap.scratch)}")
    for each in (*sequences, *tables):
        _make_one(loading, session, each)


def _make_one(loading: Loading, session: Session, definition: Definition) -> None:
    old, new = (f"{_NEXT_VALUE}{quoted(name)}.".encode() for name in (loading.stored.name, loading.load.into))
    try:
        session.run(definition.text.replace(old, new))
        if definition.position:
            value, round_ = definition.position
            session.rows(f"SELECT SETVAL({quoted(definition.name)}, {value}, 0, {round_})")
    except ServerError as exc:
        item = printable(spell_item(ENGINE, loading.load.into, definition.name))
        raise DatabaseFailed(item=item, reason=f"it cannot be made here: {exc}") from exc


def _run_ahead(loading: Loading, session: Session) -> None:
    """Make the sequences that a column's default asks for by their final name."""
    into = loading.load.into
    if not loading.was_there:
        swap.make_database(session, into, loading.stored.charset, loading.stored.collation)
    there = swap.tables_of(session, into)
    session.run(f"USE {quoted(into)}")
    for each in loading.stored.of("sequence"):
        if each.name not in there:
            session.run(each.text)
            loading.forerunners.append(each.name)


def _schema_is_there(session: Session, name: str) -> bool:
    return (name,) in session.names("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")


def _fill(loading: Loading) -> None:
    forms = loading.stored.tables
    tables = [(table, forms[table.name]) for table in loading.wanted if table.rows]
    filling = Filling(
        loading.login, loading.swap.scratch, loading.load.into, loading.dump, loading.said, loading.progress
    )
    filling.fill(tables)


# ---------------------------------------------------------------- in the place of what is there


def _put_in_place(loading: Loading, session: Session) -> None:
    into, kept = loading.load.into, loading.stored
    if not _schema_is_there(session, into):
        swap.make_database(session, into, kept.charset, kept.collation)
    loading.grants = accounts.routine_grants(session, into, loading.said) if loading.load.tables is None else []
    loading.before = list(_programs_here(loading))
    loading.swap = _what_moves(loading, session)
    in_the_way = [each for each in loading.before if each.kind in ("trigger", "view")]
    programs.drop_all(session, into, in_the_way)
    ended = swap.move(session, loading.swap, loading.login.lock_seconds)
    if ended:
        loading.said.notes.append(f"{ended} sessions that used {printable(into)} were ended")
    _make_programs(loading, session)
    swap.turn_foreign_keys(session, loading.swap, loading.said)


def _programs_here(loading: Loading) -> Iterator[Definition]:
    """What of the live database has to make room: all of it, or the triggers of single tables."""
    into, only = loading.load.into, loading.load.tables
    with loading.login.open() as session:
        session.run("SET character_set_results = binary")
        here = schemas(session, into).get(into)
        loading.looked = (here.charset, here.collation, here.comment) if here else ()
        for each in definitions(session, here) if here else ():
            if each.kind in ("table", "sequence"):
                continue
            if isinstance(each, Unreadable):
                raise DatabaseFailed(
                    item=printable(spell_item(ENGINE, into, each.name)), reason=f"{each.kind}: {each.reason}"
                )
            is_of_them = only is not None and (each.kind == "trigger" and each.table in only)
            if only is None or is_of_them or (each.kind == "view" and each.name in only):
                yield each
        # The server ends a session a while after its client: this one must not be taken for somebody who uses `into`.
        session.run(f"USE {quoted(loading.swap.scratch)}")


def _what_moves(loading: Loading, session: Session) -> Swap:
    here = {name for name, kind in swap.tables_of(session, loading.load.into).items() if kind != "VIEW"}
    new = set(swap.tables_of(session, loading.swap.scratch))
    without_rows = {table.name for table in loading.wanted if table.rows is None}
    stays = here & (without_rows | set(loading.load.kept))
    out = here - stays if loading.load.tables is None else here & new
    return Swap(
        loading.swap.live, loading.swap.scratch, loading.swap.aside, tuple(sorted(new - stays)), tuple(sorted(out))
    )


def _make_programs(loading: Loading, session: Session) -> None:
    into, kept, only = loading.load.into, loading.stored, loading.load.tables
    made: Sequence[Definition] = kept.of(*programs.KINDS)
    if only is None:
        programs.drop_all(session, into, loading.before)
        _set_database(session, into, kept.charset, kept.collation, kept.comment)
        _make_rowless(loading, session)
    else:
        made = [each for each in kept.of("trigger") if each.table in only]
    loading.waiting = programs.make_all(session, into, made, loading.said)
    programs.grant_again(session, into, loading.grants, loading.said)


def _set_database(session: Session, name: str, charset: str, collation: str, comment: str) -> None:
    session.run(f"ALTER DATABASE {quoted(name)} CHARACTER SET {charset} COLLATE {collation}")
    with contextlib.suppress(ServerError):  # only MariaDB has comments on databases
        session.run(f"ALTER DATABASE {quoted(name)} COMMENT {text(comment)}")


def _make_rowless(loading: Loading, session: Session) -> None:
    """Tables that are made of other tables, which have to be in their place already."""
    session.run(f"USE {quoted(loading.load.into)}")
    for each in loading.stored.of("table"):
        if loading.stored.tables[each.name].has_rows:
            continue
        try:
            session.run(each.text)
        except ServerError as exc:
            loading.said.skip(loading.load.into, each.name, f"it cannot be made here: {exc}")


def _drop_rowless(loading: Loading, session: Session) -> None:
    for each in loading.stored.of("table"):
        if loading.load.tables is None and not loading.stored.tables[each.name].has_rows:
            session.run(f"DROP TABLE IF EXISTS {quoted(loading.load.into)}.{quoted(each.name)}")


# ---------------------------------------------------------------- and back


@contextlib.contextmanager
def _undoing(loading: Loading, session: Session) -> Iterator[None]:
    """Put everything back where the block fails, whatever the reason."""
    try:
        yield
    except BaseException as exc:
        session.close()
        try:
            loading.said = Notes()  # nobody hears what was said of a load that failed
            with loading.login.open() as fresh:
                _undo(loading, fresh, session.id)
        except ServerError as worse:
            reason = f"{exc}; then it could not be put back: {worse}; its tables are in {loading.swap.aside}"
            raise DatabaseFailed(item=printable(spell_item(ENGINE, loading.load.into)), reason=reason) from exc
        if lost := [f"{printable(each.item)}: {each.reason}" for each in loading.said.skipped]:
            reason = f"{exc or 'interrupted'}; what was there could not all be put back: {'; '.join(lost)}"
            raise DatabaseFailed(item=printable(spell_item(ENGINE, loading.load.into)), reason=reason) from exc
        raise


def _undo(loading: Loading, session: Session, ended: int) -> None:
    with contextlib.suppress(ServerError):  # what it was in the middle of must not come to pass later
        session.run(f"KILL {ended}")
        while session.rows(f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {ended}"):
            session.run("DO SLEEP(0.05)")
    moves, into = loading.swap, loading.load.into
    if not loading.was_there:
        swap.drop_databases(session, (into, moves.scratch, moves.aside))
        return
    if swap.was_moved(session, moves):
        programs.drop_all(session, into, loading.stored.of(*programs.KINDS))
        _drop_rowless(loading, session)
        session.run(f"RENAME TABLE {moves.back}")
        swap.turn_foreign_keys(session, moves, loading.said)
    if loading.looked:
        _set_database(session, into, *loading.looked)
    if loading.before:
        programs.drop_all(session, into, loading.before)
        for view, reason in programs.make_all(session, into, loading.before, loading.said):
            loading.said.skip(into, view.name, f"view: {reason}")
        programs.grant_again(session, into, loading.grants, loading.said)
    for name in loading.forerunners:
        session.run(f"DROP SEQUENCE IF EXISTS {quoted(into)}.{quoted(name)}")
    swap.drop_databases(session, (moves.scratch, moves.aside))


# ---------------------------------------------------------------- what else should be known


def about_programs(session: Session, loading: Loading) -> list[str]:
    """Definers that are no account here, and programs that go on naming the database they came from."""
    here = session.names("SELECT User, Host FROM mysql.user")
    names = {f"{user}@{host}" for user, host in here} | {user for user, host in here if not host}
    into = loading.load.into
    missing: dict[str, list[str]] = {}
    for each in loading.stored.of(*programs.KINDS):
        if each.definer and each.definer not in names:
            missing.setdefault(each.definer, []).append(f"{each.kind} {each.name}")
    notes = [
        f"{printable(definer)} is no account here, yet {printable(', '.join(of))} of {printable(into)} would run as it"
        for definer, of in sorted(missing.items())
    ]
    if into == loading.stored.name:
        return notes
    old = loading.stored.name.encode("utf-8", "surrogateescape")
    naming = [f"{each.kind} {each.name}" for each in loading.stored.of(*programs.KINDS) if old in each.text]
    return [
        *notes,
        *(
            f"{printable(name)} of {printable(into)} may go on naming {printable(loading.stored.name)}"
            for name in naming
        ),
    ]
