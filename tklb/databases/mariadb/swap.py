"""Put loaded tables in the place of those that are there, in one statement, and take it back.

Takes a session and names; touches the databases named: `live`, the scratch database the new tables come from, and the
one beside it where the old ones go. RENAME TABLE carries foreign keys along, so those that point into the two are
turned to the live database again.
"""

import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tklb.databases.mariadb.catalogue import OURS
from tklb.databases.mariadb.said import Notes
from tklb.databases.mariadb.session import ServerError, Session, quoted, text
from tklb.errors import printable

_NAME = rb"`(?:[^`]|``)+`"
_NAMES = rb"%b(?:, ?%b)*" % (_NAME, _NAME)
_FOREIGN_KEY = re.compile(
    rb"CONSTRAINT (%b) FOREIGN KEY \((%b)\) REFERENCES (?:(%b)\.)?(%b) \((%b)\)"
    rb"((?: ON (?:DELETE|UPDATE) (?:CASCADE|RESTRICT|SET NULL|SET DEFAULT|NO ACTION))*)"
    % (_NAME, _NAMES, _NAME, _NAME, _NAMES)
)
_LOCKED = frozenset({1205, 1213})
_TRY = 5  # seconds


@dataclass(frozen=True, slots=True)
class Swap:
    """Which tables go where: `moved_in` from scratch to live, `moved_out` from live to aside."""

    live: str
    scratch: str
    aside: str
    moved_in: tuple[str, ...] = ()
    moved_out: tuple[str, ...] = ()

    @property
    def there(self) -> str:
        out = [_move(name, self.live, self.aside) for name in self.moved_out]
        return ", ".join([*out, *(_move(name, self.scratch, self.live) for name in self.moved_in)])

    @property
    def back(self) -> str:
        into = [_move(name, self.live, self.scratch) for name in self.moved_in]
        return ", ".join([*into, *(_move(name, self.aside, self.live) for name in self.moved_out)])


def _move(name: str, old: str, new: str) -> str:
    return f"{quoted(old)}.{quoted(name)} TO {quoted(new)}.{quoted(name)}"


def new_names() -> tuple[str, str]:
    """A scratch database and one to put things aside, that nobody else has."""
    word = secrets.token_hex(8)
    return f"tklb_scratch_{word}", f"tklb_aside_{word}"


def make_database(session: Session, name: str, charset: str, collation: str) -> None:
    session.run(f"CREATE DATABASE {quoted(name)} CHARACTER SET {charset} COLLATE {collation}")


def drop_left_over(session: Session) -> None:
    """Drop what a killed run left: its tables were all moved in one statement, so none of them is needed."""
    names = session.names("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")
    drop_databases(session, (name for (name,) in names if OURS.fullmatch(name)))


def tables_of(session: Session, database: str) -> dict[str, str]:
    """Names and kinds of the tables and views of a database; empty where there is none."""
    query = "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = "
    return {name: kind for schema, name, kind in session.names(query + text(database)) if schema == database}


def end_sessions(session: Session, database: str) -> set[str]:
    """End everybody else's sessions that use a database; their numbers: one that is ended stays listed for a while."""
    query = "SELECT ID, DB FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND <> 'Daemon'"
    ended: set[str] = set()
    for number, name in session.names(query):
        if name != database:
            continue
        try:
            session.run(f"KILL {number}")
            ended.add(number)
        except ServerError:
            continue  # it has gone by itself
    return ended


def move(session: Session, swap: Swap, seconds: int) -> int:
    """Swap the tables; how many sessions had to be ended for it. Raises ServerError."""
    ended = end_sessions(session, swap.live)
    if not swap.there:
        return len(ended)
    until = time.monotonic() + seconds
    session.wait_for_locks(min(_TRY, seconds))
    try:
        while True:
            try:
                session.run(f"RENAME TABLE {swap.there}")
                return len(ended)
            except ServerError as exc:
                if exc.number not in _LOCKED or time.monotonic() > until:
                    raise
                ended |= end_sessions(session, swap.live)
    finally:
        session.wait_for_locks(seconds)


def was_moved(session: Session, swap: Swap) -> bool:
    """Whether the statement was carried out: it is, as a whole or not at all."""
    names = swap.moved_in or swap.moved_out
    there = tables_of(session, swap.scratch if swap.moved_in else swap.live)
    return bool(names) and names[0] not in there


def turn_foreign_keys(session: Session, swap: Swap, said: Notes) -> None:
    """Let every foreign key that points into the two other databases point to the live one."""
    others = (swap.scratch, swap.aside)
    query = (
        "SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE"
        f" WHERE REFERENCED_TABLE_SCHEMA IN ({', '.join(map(text, others))})"
    )
    for database, table in session.names(query):
        if database in others:
            continue
        address = f"{quoted(database)}.{quoted(table)}"
        try:
            shown_text = session.rows(f"SHOW CREATE TABLE {address}")[0][1] or b""
            _turn(session, address, shown_text, swap)
        except ServerError as exc:
            said.skip(database, table, f"its foreign keys to {printable(swap.live)} could not be set: {exc}")


def _turn(session: Session, address: str, statement: bytes, swap: Swap) -> None:
    others = {quoted(swap.scratch).encode(), quoted(swap.aside).encode()}
    live = quoted(swap.live).encode("utf-8", "surrogateescape")
    table = address.encode("utf-8", "surrogateescape")
    for found in _FOREIGN_KEY.finditer(statement):
        name, columns, database, parent, keys, rules = found.groups()
        if database in others:
            session.run(b"ALTER TABLE %b DROP FOREIGN KEY %b" % (table, name))
            session.run(
                b"ALTER TABLE %b ADD CONSTRAINT %b FOREIGN KEY (%b) REFERENCES %b.%b (%b)%b"
                % (table, name, columns, live, parent, keys, rules)
            )


def drop_databases(session: Session, names: Iterable[str]) -> None:
    """Drop those that are there: the server may still be at the last statement of a killed run, which drops one too."""
    for name in names:
        session.run(f"DROP DATABASE IF EXISTS {quoted(name)}")
