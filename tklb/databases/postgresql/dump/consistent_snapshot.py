"""A consistent snapshot of one database: all its tables locked against changes of their definitions, then one moment.

PostgreSQL has no moment that several databases share: each has its own. Every table is locked before the moment is
taken: one that was emptied or rewritten later would look empty (PostgreSQL's manual, "Caveats" of MVCC).
Takes a connection; leaves it in the transaction that holds the moment and the locks. Changes nothing.
"""

import time
from collections.abc import Mapping, Sequence

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


@dataclass(frozen=True, slots=True)
class ConsistentSnapshot:
    """`name` lets other sessions see the same moment; `left_out` are the relations that cannot be dumped, and why."""

    name: str
    left_out: Mapping[Relation, str]


def open_consistent_snapshot(connection: ServerConnection) -> ConsistentSnapshot:
    """Lock all tables and take the moment, which lasts as long as the connection's transaction. Raises ServerError."""
    relations = list_lockable(connection)
    connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    failed = _lock(connection, relations)
    hanging = _list_dependants(connection, tuple(oid for oid, _, _ in failed)) if failed else ()
    left_out = {
        **{
            relation: f"{reason}; neither its definition nor its rows were dumped"
            for relation, reason in failed.items()
        },
        **{
            relation: "it depends on a table that is locked, and was not dumped"
            for relation in hanging
            if relation not in failed
        },
    }
    return ConsistentSnapshot(connection.fetch_value("SELECT pg_export_snapshot()") or "", left_out)


def _lock(connection: ServerConnection, relations: Sequence[Relation]) -> dict[Relation, str]:
    """Lock all, waiting for as long as is allowed for one; the reasons of those that could not be locked."""
    seconds = connection.login.lock_seconds
    waiting = [relation for relation in relations if _try_lock(connection, relation, "NOWAIT")]
    deadline = time.monotonic() + seconds
    failed: dict[Relation, str] = {}
    for relation in waiting:
        left = max(1, int((deadline - time.monotonic()) * 1000))
        connection.run(f"SET LOCAL lock_timeout = {left}")
        if refusal := _try_lock(connection, relation, ""):
            failed[relation] = _explain(refusal, seconds)
    connection.run(f"SET LOCAL lock_timeout = '{seconds}s'")
    return failed


def _try_lock(connection: ServerConnection, relation: Relation, how: str) -> ServerError | None:
    table = quote_name(*relation[1:])
    connection.run("SAVEPOINT a_lock")
    try:
        connection.run(f"LOCK TABLE ONLY {table} IN ACCESS SHARE MODE {how}")
    except ServerError as exc:
        connection.run("ROLLBACK TO SAVEPOINT a_lock")
        return None if exc.state == OUT_OF_LOCKS else exc
    finally:
        connection.run("RELEASE SAVEPOINT a_lock")
    return None


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
