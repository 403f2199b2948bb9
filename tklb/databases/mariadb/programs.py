"""Views, routines, triggers and events: made as they were made once, in the modes and character sets of then.

Takes a session and definitions; touches one database. What cannot be made is named, never a reason to stop.
"""

from collections.abc import Iterable, Sequence

from tklb.databases.mariadb.catalogue import Definition
from tklb.databases.mariadb.said import Notes
from tklb.databases.mariadb.session import NEUTRAL, ServerError, Session, quoted, text
from tklb.errors import printable

_NO_ROUTINE = frozenset({1305})
KINDS = ("package", "package body", "function", "procedure", "view", "trigger", "event")  # in the order they are made


def drop_all(session: Session, database: str, definitions: Iterable[Definition]) -> None:
    """Drop those that are there. Raises ServerError."""
    for each in definitions:
        if each.kind == "package":
            session.run_as_oracle(f"DROP PACKAGE IF EXISTS {quoted(database)}.{quoted(each.name)}")
        elif each.kind != "package body":
            session.run(f"DROP {each.kind.upper()} IF EXISTS {quoted(database)}.{quoted(each.name)}")


def make_all(
    session: Session, database: str, definitions: Sequence[Definition], said: Notes
) -> list[tuple[Definition, str]]:
    """Make them, kind by kind; views again and again as long as one more can be made.

    Gives the views that could not be, and why: they may need a database that is still to come.
    """
    session.run(f"USE {quoted(database)}")
    collation = _collation(session)
    waiting: list[tuple[Definition, str]] = []
    for kind in KINDS:
        todo = [each for each in definitions if each.kind == kind]
        failed = _rounds(session, database, todo, again=kind == "view")
        if kind == "view":
            waiting = failed
            continue
        for each, reason in failed:
            said.skip(database, each.name, f"{each.kind}: {reason}")
    _neutral(session)
    if _collation(session) != collation:
        session.run(f"ALTER DATABASE {quoted(database)} COLLATE {collation}")
    return waiting


def grant_again(session: Session, database: str, grants: Iterable[str], said: Notes) -> None:
    """Give them back; those of a routine that is not there any more went with it, which is worth a note."""
    for grant in grants:
        try:
            session.run_as_oracle(grant)
        except ServerError as exc:
            if exc.number in _NO_ROUTINE:
                said.notes.append(f"{printable(database)} has no such routine any more: {printable(grant)}")
            else:
                said.skip(database, "", f"not granted again: {grant}: {exc.discreet}")


def make(session: Session, database: str, definition: Definition) -> None:
    """Make one. Raises ServerError."""
    session.run(f"USE {quoted(database)}")
    try:
        if definition.collation and definition.collation != _collation(session):
            session.run(f"ALTER DATABASE {quoted(database)} COLLATE {definition.collation}")
        session.run(mode(definition))
        session.run(definition.text)
    finally:
        _neutral(session)
    if definition.comment:
        session.run(f"ALTER {definition.kind.upper()} {quoted(definition.name)} COMMENT {text(definition.comment)}")


def mode(definition: Definition) -> str:
    """The statement that sets a session to what the definition was made in."""
    zone = f", time_zone = {text(definition.time_zone)}" if definition.time_zone else ""
    return (
        f"SET SESSION sql_mode = {text(definition.sql_mode)}, character_set_client = {text(definition.client)},"
        f" collation_connection = {text(definition.connection)}{zone}"
    )


def _rounds(
    session: Session, database: str, todo: Sequence[Definition], *, again: bool
) -> list[tuple[Definition, str]]:
    failed: list[tuple[Definition, str]] = []
    while todo:
        failed = []
        for each in todo:
            try:
                make(session, database, each)
            except ServerError as exc:
                failed.append((each, printable(exc.discreet)))
        if not again or len(failed) == len(todo):
            return failed
        todo = [each for each, _ in failed]
    return failed


def _neutral(session: Session) -> None:
    session.run("SET NAMES utf8mb4")
    session.run(NEUTRAL)


def _collation(session: Session) -> str:
    return session.value("SELECT @@collation_database")
