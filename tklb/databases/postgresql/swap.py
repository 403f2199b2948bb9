"""A loaded database into the place of the one here, in one transaction.

Renaming a database locks it against new sessions, and waits some seconds for its last ones to end, which another
session of ours sees to meanwhile. So nobody is ever barred by a flag that an ended run would leave behind: until the
commit the old database is as it was, after it the new one is there. ALTER DATABASE and DROP DATABASE of PostgreSQL's
manual; CountOtherDBBackends of procarray.c. Takes sessions with a third database; touches the two.
"""

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from tklb.databases.postgresql.catalogue import OWN
from tklb.databases.postgresql.session import Refused, Session, ident

_IN_USE = "55006"
_ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class Names:
    """The database's own name, and those of the one being loaded and of the old one on its way out."""

    live: str
    scratch: str = field(default_factory=lambda: f"tklb_scratch_{secrets.token_hex(8)}")
    aside: str = field(default_factory=lambda: f"tklb_aside_{secrets.token_hex(8)}")


def exists(session: Session, database: str) -> bool:
    return bool(session.ask("SELECT FROM pg_database WHERE datname = $1", database))


def swap(renamer: Session, ender: Session, names: Names, let_go: Callable[[], None], own: int = 0) -> int:
    """Put scratch in the place of live; how many sessions of live's were ended for it.

    `own` is the session that may stay until all others are gone: `let_go` then closes it. Raises Refused: all is as
    it was.
    """
    ended: set[str] = set()
    for attempt in range(_ATTEMPTS):
        renamer.tell("BEGIN")
        try:
            if exists(ender, names.live):
                _rename_in_use(renamer, ender, names, let_go, own, ended)
            renamer.tell(f"ALTER DATABASE {ident(names.scratch)} RENAME TO {ident(names.live)}")
            renamer.tell("COMMIT")
            return len(ended)
        except Refused as exc:
            renamer.tell("ROLLBACK")
            if exc.state != _IN_USE or attempt + 1 == _ATTEMPTS:
                raise
    raise AssertionError


def _rename_in_use(
    renamer: Session, ender: Session, names: Names, let_go: Callable[[], None], own: int, ended: set[str]
) -> None:
    renamer.send(f"ALTER DATABASE {ident(names.live)} RENAME TO {ident(names.aside)}")
    while renamer.is_busy(0.05):
        rows = ender.ask(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = $1 AND pid <> $2::int AND backend_type <> 'autovacuum worker'",
            names.live,
            str(own),
        )
        ended.update(str(pid) for pid, _ in rows)
        if not rows:
            let_go()
    renamer.tell_end()


OpenSession = Callable[[str], Session]


def drop(session: Session, database: str, open_session: OpenSession) -> None:
    """Drop a database of ours, whoever is in it. Raises Refused."""
    if not exists(session, database):
        return
    with contextlib.suppress(Refused):
        session.tell(f"ALTER DATABASE {ident(database)} IS_TEMPLATE false")
    _forget_subscriptions(session, database, open_session)
    # meanwhile the server may have ended the last statement of a killed run, which dropped it
    session.tell(f"DROP DATABASE IF EXISTS {ident(database)} WITH (FORCE)")


def _forget_subscriptions(session: Session, database: str, open_session: OpenSession) -> None:
    """A database with subscriptions cannot be dropped. The publisher is not spoken to: its slot serves the new one."""
    own = "(SELECT oid FROM pg_database WHERE datname = $1)"
    names = session.ask(f"SELECT subname FROM pg_subscription WHERE subdbid = {own}", database)
    if not names:
        return
    with open_session(database) as inside:
        for (name,) in inside.ask("SELECT evtname FROM pg_event_trigger"):
            inside.tell(f"ALTER EVENT TRIGGER {ident(name or '')} DISABLE")
        for (name,) in names:
            subscription = f"SUBSCRIPTION {ident(name or '')}"
            inside.tell(f"ALTER {subscription} DISABLE")
            inside.tell(f"ALTER {subscription} SET (slot_name = NONE)")
            inside.tell(f"DROP {subscription}")


def slots(session: Session, database: str) -> tuple[str, ...]:
    """The logical replication slots of a database: they go with it."""
    asked = "SELECT slot_name FROM pg_replication_slots WHERE database = $1 ORDER BY 1"
    return tuple(name or "" for (name,) in session.ask(asked, database))


def sweep(session: Session, open_session: OpenSession) -> tuple[str, ...]:
    """Drop what restores that were killed left behind; what could not be."""
    left = []
    for (name,) in session.ask("SELECT datname FROM pg_database WHERE datname ~ $1 ORDER BY 1", OWN):
        try:
            drop(session, name or "", open_session)
        except Refused as exc:
            left.append(f"the database {name} of an ended restore cannot be dropped: {exc}")
    return tuple(left)
