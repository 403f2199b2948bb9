"""List the databases of this machine's servers, and dump them into the snapshot metadata.

A server that fails is a skipped item, and the rest of the run continues; the status of its error becomes that of the
run.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tklb.base.fs import free_space, private_folder
from tklb.base.measure import format_count, format_size
from tklb.databases.dump_format import encode_server_name, write_server
from tklb.databases.filter import DatabaseFilter, build_filter, spell_item
from tklb.databases.interface import DatabaseServer
from tklb.databases.servers import KnownServer, find_server, list_servers
from tklb.diff.rules import Override
from tklb.errors import COMPLETE, INCOMPLETE, DatabaseFailed, NoSpace
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import ENGINES, Database, SavedServer, find_engine
from tklb.model.report import Skipped
from tklb.session import Session
from tklb.snapshot import metadata

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dumps:
    """The databases that a run dumped, or would dump, those it could not, and notes for people."""

    databases: tuple[Database, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


TakeDumps = Callable[[Session, Iterable[Override], Path], Dumps]
AskServer = Callable[[DatabaseServer, DatabaseFilter], Dumps]


def list_databases(session: Session, overrides: Iterable[Override], _folder: Path | None = None) -> Dumps:
    """List the databases that a backup would dump, with the sizes that the servers report."""
    dumps = _ask_servers(session, overrides, _list)
    note = "only a backup dumps databases: whether they changed is not known"
    return Dumps(dumps.databases, dumps.skipped, (note,) if dumps.databases else ())


def dump_databases(session: Session, overrides: Iterable[Override], folder: Path) -> Dumps:
    """Dump every database in scope of every server below databases/ in the snapshot metadata."""
    return _ask_servers(session, overrides, lambda server, scope: _dump(session, server, scope, folder))


def explain_failure(engine: str, exc: DatabaseFailed) -> Skipped:
    """A server that failed, as a skipped item."""
    return Skipped(f"{engine}:*".encode(), str(exc), status=exc.code)


def _ask_servers(session: Session, overrides: Iterable[Override], ask: AskServer) -> Dumps:
    wanted = tuple(overrides)
    filters = ((server, build_filter(server.word, wanted)) for server in _list_servers(session, wanted))
    parts = [_ask_server(session, server, scope, ask) for server, scope in filters if not scope.is_empty()]
    return Dumps(
        databases=tuple(database for part in parts for database in part.databases),
        skipped=tuple(item for part in parts for item in part.skipped),
        notes=tuple(note for part in parts for note in part.notes),
    )


def _list_servers(session: Session, overrides: tuple[Override, ...]) -> tuple[KnownServer, ...]:
    """All servers of this machine, and those that overrides name and that are not here."""
    try:
        found = list_servers(session.config.databases)
    except DatabaseFailed as exc:
        found = tuple(KnownServer(engine, str(exc) if engine in str(exc) else "") for engine in ENGINES)
    known = {server.word for server in found}
    named = (override.kind for override in overrides if override.include and find_engine(override.kind))
    return (*found, *(KnownServer(word) for word in dict.fromkeys(named) if word not in known))


def _ask_server(session: Session, known: KnownServer, scope: DatabaseFilter, ask: AskServer) -> Dumps:
    if known.lack:
        is_asked = any(override.include for override in scope.overrides)
        status = COMPLETE if known.is_off and not is_asked else INCOMPLETE
        return Dumps(skipped=(Skipped(f"{known.word}:*".encode(), known.lack, status),))
    try:
        server = find_server(known.word, session.config.databases)
        return ask(server, scope) if server else Dumps(skipped=tuple(_list_absent(scope, known.word, ())))
    except DatabaseFailed as exc:
        return Dumps(skipped=(explain_failure(known.word, exc),))


def _list(server: DatabaseServer, scope: DatabaseFilter) -> Dumps:
    listed = server.list_databases()
    found = tuple(database for database in listed if scope.has_database(database.name))
    return Dumps(found, tuple(_list_absent(scope, server.engine, listed)))


def _dump(session: Session, server: DatabaseServer, scope: DatabaseFilter, folder: Path) -> Dumps:
    place = private_folder(folder / metadata.DUMPS / encode_server_name(server.engine))
    _need_room(place, sum(found.bytes for found in server.list_databases() if scope.has_database(found.name)))
    dumped = server.dump_databases(scope, place, session.progress)
    write_server(place, dumped.server)
    for saved in dumped.server.databases:
        tables = format_count(len(saved.tables), "table")
        log.info("dumped database %s (%s): %s, %s", saved.name, saved.engine, tables, format_size(saved.bytes))
    return Dumps(
        databases=tuple(Database(saved.engine, saved.name, saved.bytes) for saved in dumped.server.databases),
        skipped=(*dumped.skipped, *_find_missing(server, scope, dumped.server, dumped.skipped)),
        notes=dumped.notes,
    )


def _need_room(folder: Path, amount: int) -> None:
    """Raise NoSpace where dumps as large as the sizes that the servers report would not fit."""
    if amount > (free := free_space(folder)):
        raise NoSpace(path=str(folder), reason=f"the databases hold {amount} bytes, {free} are free")


def _find_missing(
    server: DatabaseServer, scope: DatabaseFilter, saved: SavedServer, skipped: tuple[Skipped, ...]
) -> Iterator[Skipped]:
    """Name the databases that the server has now, and that are neither in the dump nor skipped."""
    try:
        listed = server.list_databases()
    except DatabaseFailed as exc:
        yield explain_failure(server.engine, exc)
        return
    known = {item.item for item in skipped} | {spell_item(server.engine, database.name) for database in saved.databases}
    for database in listed:
        item = spell_item(server.engine, database.name)
        if scope.has_database(database.name) and item not in known:
            yield Skipped(item, "it is there now, and was not dumped")
    yield from _list_absent(
        scope, server.engine, (*listed, *(Database(server.engine, database.name) for database in saved.databases))
    )


def _list_absent(scope: DatabaseFilter, engine: str, listed: Iterable[Database]) -> Iterator[Skipped]:
    """The databases that overrides name and the server does not have."""
    there = {spell_item(engine, database.name) for database in listed}
    for override in scope.overrides:
        item = engine.encode() + b":" + override.value.split(b"/")[0]
        if override.include and item not in there and not any(sign in item for sign in b"*?["):
            yield Skipped(item, "there is no such database")
