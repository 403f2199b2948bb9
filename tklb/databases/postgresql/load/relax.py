"""Lift a constraint that saved rows do not hold, so that they can be loaded. It comes back afterwards.

Rows that broke a rule later are common: a function in a check changed, or a locale. Takes an administrator's connection
and the server's refusal of rows; changes the definition of one table or domain, and runs no code of the database.
"""

from tklb.databases.postgresql.connection import ErrorPlace, ServerConnection, ServerError, quote_name
from tklb.databases.postgresql.definitions import RefusedEntry
from tklb.databases.postgresql.script import Entry, Statement

__all__ = ["lift_constraint"]

_CHECK_VIOLATION, _NOT_NULL_VIOLATION = "23514", "23502"
_TYPE = """
SELECT t.oid, nspname, typname, pg_get_userbyid(typowner) FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
WHERE nspname = $1 AND typname = $2"""
_CHECK = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1 AND contype = 'c' AND {} = $2::oid"
# the table itself, or the one that it has its constraints and columns from
_ROOT = """
WITH RECURSIVE above (oid, depth) AS (SELECT $1::regclass::oid, 0
  UNION ALL SELECT i.inhparent, depth + 1 FROM above JOIN pg_inherits i ON i.inhrelid = above.oid)
SELECT c.oid, n.nspname, c.relname, pg_get_userbyid(c.relowner) FROM above JOIN pg_class c USING (oid)
  JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE EXISTS (SELECT FROM pg_constraint WHERE conrelid = c.oid AND conname = $2 AND contype = 'c')
  OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = $3 AND attnotnull)
ORDER BY depth DESC LIMIT 1"""


def lift_constraint(connection: ServerConnection, error: ServerError) -> RefusedEntry | None:
    """Drop the constraint that an error is about; give what brings it back. None where the error is about none."""
    if error.state not in (_CHECK_VIOLATION, _NOT_NULL_VIOLATION) or not connection.is_idle:
        return None
    try:
        statement = _lift(connection, error.place, is_check=error.state == _CHECK_VIOLATION)
    except ServerError:
        return None
    return RefusedEntry(Entry((statement,)), error) if statement else None


def _lift(connection: ServerConnection, place: ErrorPlace, *, is_check: bool) -> Statement | None:
    if place.type:
        owners = connection.fetch_rows(_TYPE, place.schema, place.type)
        thing, column = "DOMAIN", "contypid"
    else:
        table = quote_name(place.schema, place.table)
        owners = connection.fetch_rows(_ROOT, table, place.constraint, place.column)
        thing, column = "TABLE", "conrelid"
    if not owners:
        return None
    oid, schema, name, owner = (value or "" for value in owners[0])
    alter = f"ALTER {thing} {quote_name(schema, name)}"
    if is_check:
        label, kind = f"{name} {place.constraint}", "CHECK CONSTRAINT"
        definition = connection.fetch_value(_CHECK.format(column), place.constraint, oid)
        drop = f"DROP CONSTRAINT {quote_name(place.constraint)}"
        back = f"ADD CONSTRAINT {quote_name(place.constraint)} {definition}"
    else:
        label, kind = name, f"NOT NULL {place.column}".strip()
        part = f"ALTER COLUMN {quote_name(place.column)} " if thing == "TABLE" else ""
        drop, back = f"{part}DROP NOT NULL", f"{part}SET NOT NULL"
    connection.run(f"{alter} {drop}")
    return Statement(f"{alter} {back};".encode("utf-8", "surrogateescape"), label, schema, "ALTER", kind, owner, True)
