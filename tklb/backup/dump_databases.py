"""Ask the database servers of this machine what there is, and let them dump it into the stage.

A server that cannot be asked is named, and all else goes on; its error's status is then the exit status of the run.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tklb.base.fs import private_folder
from tklb.databases.dump_format import write_server
from tklb.databases.filter import DatabaseFilter, filter_for, item_of
from tklb.databases.interface import DatabaseServer
from tklb.databases.servers import ENGINES, find_server
from tklb.diff.rules import Override
from tklb.errors import DatabaseFailed, NoSpace
from tklb.model.databases import Database, SavedServer
from tklb.model.report import Skipped
from tklb.session import Session
from tklb.snapshot import metadata


@dataclass(slots=True)
class Dumps:
    """What was dumped, or would be. `bytes` is the size of all that lies below databases/ in the stage."""

    databases: list[Database] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bytes: int = 0


TakeDumps = Callable[[Session, Iterable[Override], Path], Dumps]


def list_databases(setting: Session, overrides: Iterable[Override], _stage: Path | None = None) -> Dumps:
    """Only say what a backup would dump, with the sizes that the servers reckon."""
    dumps = Dumps()
    for server, wish in _wanted_servers(setting, overrides, dumps.skipped):
        try:
            listed = server.databases()
        except DatabaseFailed as exc:
            dumps.skipped.append(explain_failure(server.engine, exc))
            continue
        dumps.databases += [database for database in listed if wish.database(database.name)]
        dumps.skipped += _absent(wish, server.engine, listed)
    if dumps.databases:
        dumps.notes.append("databases are dumped by a backup only: whether they changed is not known")
    return dumps


def dump_databases(setting: Session, overrides: Iterable[Override], stage: Path) -> Dumps:
    """Dump every wanted database of every server below databases/ of the stage."""
    dumps = Dumps()
    for server, wish in _wanted_servers(setting, overrides, dumps.skipped):
        try:
            _dump(setting, server, wish, stage, dumps)
        except DatabaseFailed as exc:
            dumps.skipped.append(explain_failure(server.engine, exc))
    return dumps


def _dump(setting: Session, server: DatabaseServer, wish: DatabaseFilter, stage: Path, dumps: Dumps) -> None:
    folder = private_folder(stage / metadata.DUMPS / server.engine)
    _need_room(folder, sum(found.bytes for found in server.databases() if wish.database(found.name)))
    dumped = server.dump(wish, folder, setting.progress)
    write_server(folder, dumped.server)
    dumps.databases += [Database(saved.engine, saved.name, saved.bytes) for saved in dumped.server.databases]
    dumps.notes += dumped.notes
    dumps.skipped += dumped.skipped
    dumps.skipped += _unaccounted(server, wish, dumped.server, dumped.skipped)


def _need_room(folder: Path, amount: int) -> None:
    """Raise NoSpace where dumps as large as the servers reckon their databases would not fit."""
    room = os.statvfs(folder)
    if amount > (free := room.f_bavail * room.f_frsize):
        raise NoSpace(path=str(folder), reason=f"the databases hold {amount} bytes, {free} are free")


def _unaccounted(
    server: DatabaseServer, wish: DatabaseFilter, saved: SavedServer, skipped: tuple[Skipped, ...]
) -> Iterator[Skipped]:
    """What the server has now, is wanted, and is neither in the dump nor named: whatever the reason, it is told."""
    listed = server.databases()
    named = {item.item for item in skipped} | {item_of(server.engine, database.name) for database in saved.databases}
    for database in listed:
        item = item_of(server.engine, database.name)
        if wish.database(database.name) and item not in named:
            yield Skipped(item, "it is there now, and was not dumped")
    known = (*listed, *(Database(server.engine, database.name) for database in saved.databases))
    yield from _absent(wish, server.engine, known)


def _absent(wish: DatabaseFilter, engine: str, listed: Iterable[Database]) -> Iterator[Skipped]:
    """The databases asked for by name that are not there."""
    there = {item_of(engine, database.name) for database in listed}
    for override in wish.overrides:
        item = engine.encode() + b":" + override.value.split(b"/")[0]
        if override.include and item not in there and not any(sign in item for sign in b"*?["):
            yield Skipped(item, "there is no such database")


def _wanted_servers(
    setting: Session, overrides: Iterable[Override], skipped: list[Skipped]
) -> Iterator[tuple[DatabaseServer, DatabaseFilter]]:
    known = tuple(overrides)
    for engine in ENGINES:
        wish = filter_for(engine, known)
        if wish.wants_none():
            continue
        try:
            server = find_server(engine, setting.config.databases)
        except DatabaseFailed as exc:
            skipped.append(explain_failure(engine, exc))
            continue
        if server:
            yield server, wish
        else:
            skipped += _absent(wish, engine, ())


def explain_failure(engine: str, exc: DatabaseFailed) -> Skipped:
    """A server that could not be asked, as an item of a report."""
    return Skipped(f"{engine}:*".encode(), str(exc), status=exc.code)
