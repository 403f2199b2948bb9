"""A consistent snapshot of one database: all its tables locked against changes of their definitions, then one moment.

PostgreSQL has no moment that several databases share: each has its own. Every table is locked before the moment is
taken: one that was emptied or rewritten later would look empty (PostgreSQL's manual, "Caveats" of MVCC).
Takes a connection; leaves it in the transaction that holds the moment and the locks. Changes nothing.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence

from tklb.databases.postgresql.catalogue import list_lockable
from tklb.databases.postgresql.connection import (
    LOCK_NOT_AVAILABLE,
    OUT_OF_LOCKS,
    ServerConnection,
    ServerError,
    quote_name,
)
from tklb.lazy_dataclass import dataclass

__all__ = ["ConsistentSnapshot", "open_consistent_snapshot"]

Relation = tuple[str, str, str]  # oid, schema, name
_TOGETHER = 200  # tables locked by one statement


@dataclass(frozen=True, slots=True)
class ConsistentSnapshot:
    """`name` lets other sessions see the same moment; `left_out` are the relations that cannot be dumped, and why.

    `has_waited`: somebody had one of them locked for longer than is allowed.
    """

    name: str
    left_out: Mapping[Relation, str]
    has_waited: bool


def open_consistent_snapshot(connection: ServerConnection) -> ConsistentSnapshot:
    """Lock all tables and take the moment, which lasts as long as the connection's transaction. Raises ServerError."""
    relations = list_lockable(connection)
    connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        failed = _lock(connection, relations)
    except ServerError as exc:
        connection.run("ROLLBACK")
        raise explain_locks(connection, exc) from exc
    hanging = _list_dependants(connection, tuple(oid for oid, _, _ in failed)) if failed else ()
    seconds = connection.login.lock_seconds
    left_out = {
        **{
            relation: f"{_explain(refusal, seconds)}; neither its definition nor its rows were dumped"
            for relation, refusal in failed.items()
        },
        **{
            relation: "it depends on a table that is locked, and was not dumped"
            for relation in hanging
            if relation not in failed
        },
    }
    has_waited = any(refusal.state == LOCK_NOT_AVAILABLE for refusal in failed.values())
    return ConsistentSnapshot(connection.fetch_value("SELECT pg_export_snapshot()") or "", left_out, has_waited)


def _lock(connection: ServerConnection, relations: Sequence[Relation]) -> dict[Relation, ServerError]:
    """Lock all, waiting for as long as is allowed for one; the refusals of those that could not be locked."""
    seconds = connection.login.lock_seconds
    waiting = list(_lock_at_once(connection, relations))
    deadline = time.monotonic() + seconds
    failed: dict[Relation, ServerError] = {}
    for relation in waiting:
        left = max(1, int((deadline - time.monotonic()) * 1000))
        connection.run(f"SET LOCAL lock_timeout = {left}")
        if refusal := _try_lock(connection, [relation], ""):
            failed[relation] = refusal
    connection.run(f"SET LOCAL lock_timeout = '{seconds}s'")
    return failed


def _lock_at_once(connection: ServerConnection, relations: Sequence[Relation]) -> Iterator[Relation]:
    """Lock those that nobody has locked, many in a statement; give the others."""
    for place in range(0, len(relations), _TOGETHER):
        several = relations[place : place + _TOGETHER]
        if _try_lock(connection, several, "NOWAIT"):
            yield from (relation for relation in several if _try_lock(connection, [relation], "NOWAIT"))


def _try_lock(connection: ServerConnection, relations: Sequence[Relation], how: str) -> ServerError | None:
    """Lock all of them or none; the refusal. Raises ServerError where the server has no room for another lock."""
    tables = ", ".join(f"ONLY {quote_name(*relation[1:])}" for relation in relations)
    connection.run("SAVEPOINT some_locks")
    try:
        connection.run(f"LOCK TABLE {tables} IN ACCESS SHARE MODE {how}")
    except ServerError as exc:
        if exc.state == OUT_OF_LOCKS:
            raise
        connection.run("ROLLBACK TO SAVEPOINT some_locks; RELEASE SAVEPOINT some_locks")
        return exc
    connection.run("RELEASE SAVEPOINT some_locks")
    return None


def explain_locks(connection: ServerConnection, failure: Exception) -> Exception:
    """A failure as it is; for want of locks, one with the setting that lets the server lock so many tables."""
    if "out of shared memory" not in str(failure):
        return failure
    count = len(list_lockable(connection))
    sessions = int(connection.fetch_value("SELECT current_setting('max_connections')") or 1)
    enough = max(128, 64 * math.ceil(count * 1.2 / sessions / 64))
    return ServerError(
        f"the server has too little room to lock its {count} tables; max_locks_per_transaction = {enough}"
        " in postgresql.conf, and a restart, give it more"
    )


def _explain(refusal: ServerError, seconds: int) -> str:
    if refusal.state == LOCK_NOT_AVAILABLE:
        return f"another session has had it locked for longer than {seconds} seconds (databases.lock_seconds)"
    return str(refusal)


def _list_dependants(connection: ServerConnection, oids: tuple[str, ...]) -> tuple[tuple[str, str, str], ...]:
    """The relations that hang on some others: their partitions, heirs and sequences, and the views on them."""
    listed = "{" + ",".join(oids) + "}"
    rows = connection.fetch_rows(
        """WITH RECURSIVE gone (oid) AS (
             SELECT unnest($1::oid[])
             UNION SELECT next.oid FROM gone JOIN (
                 SELECT inhparent AS parent, inhrelid AS oid FROM pg_inherits
                 UNION ALL SELECT refobjid, objid FROM pg_depend WHERE deptype IN ('a', 'i')
                   AND classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
                 UNION ALL SELECT d.refobjid, r.ev_class FROM pg_rewrite r JOIN pg_depend d
                   ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
             ) next ON next.parent = gone.oid)
           SELECT c.oid, n.nspname, c.relname FROM gone JOIN pg_class c USING (oid) JOIN pg_namespace n ON
             n.oid = c.relnamespace WHERE c.oid <> ALL ($1::oid[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')""",
        listed,
    )
    return tuple((oid or "", schema or "", name or "") for oid, schema, name in rows)
