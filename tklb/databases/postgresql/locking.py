"""The locks of a dump: every table is locked against changes of its definition before the moment of the dump is taken.

A table that was emptied or rewritten after that moment would look empty in it (PostgreSQL's manual, "Caveats" of
MVCC). Takes a session in a transaction that has not looked at anything yet; gives what could not be locked.
"""

import time
from collections.abc import Sequence

from tklb.databases.postgresql.session import LOCK_NOT_AVAILABLE, OUT_OF_LOCKS, Refused, Session, ident

Relation = tuple[str, str, str]  # oid, schema, name


def lock(session: Session, relations: Sequence[Relation], seconds: int) -> dict[Relation, str]:
    """Lock all, waiting for `seconds` altogether; why the others could not be."""
    waiting = [relation for relation in relations if _try(session, relation, "NOWAIT")]
    deadline = time.monotonic() + seconds
    failed: dict[Relation, str] = {}
    for relation in waiting:
        left = max(1, int((deadline - time.monotonic()) * 1000))
        session.tell(f"SET LOCAL lock_timeout = {left}")
        if refusal := _try(session, relation, ""):
            failed[relation] = _reason(refusal, seconds)
    session.tell(f"SET LOCAL lock_timeout = '{seconds}s'")
    return failed


def _try(session: Session, relation: Relation, how: str) -> Refused | None:
    table = ident(*relation[1:])
    session.tell("SAVEPOINT a_lock")
    try:
        session.tell(f"LOCK TABLE ONLY {table} IN ACCESS SHARE MODE {how}")
    except Refused as exc:
        session.tell("ROLLBACK TO SAVEPOINT a_lock")
        return None if exc.state == OUT_OF_LOCKS else exc
    finally:
        session.tell("RELEASE SAVEPOINT a_lock")
    return None


def _reason(refusal: Refused, seconds: int) -> str:
    if refusal.state == LOCK_NOT_AVAILABLE:
        return f"another session has had it locked for longer than {seconds} seconds (databases.lock_seconds)"
    return str(refusal)
