"""Remarks on a database: what its dump lacks or has in another form, and which constraints its rows may break.

The catalogue alone says it, in some milliseconds. To look for rows that break a constraint would read every table once
more, and the planner calls functions of the owners for it: a restore finds them, when it makes the constraint.

Takes a connection; reads only.
"""

from tklb.databases.postgresql.connection import ServerConnection

__all__ = ["list_remarks"]

_MOST_NAMES = 20
_DATABASE = "(SELECT oid FROM pg_database WHERE datname = current_database())"
_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1"
_LABELS = f"SELECT provider FROM pg_shseclabel WHERE classoid = 'pg_database'::regclass AND objoid = {_DATABASE}"
_NOT_VALID = """
SELECT coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text) || ' ' || conname FROM pg_constraint
WHERE NOT convalidated AND conparentid = 0 AND contype IN ('c', 'f') ORDER BY 1"""
_SWITCHED_OFF = """
SELECT DISTINCT conrelid::regclass || ' ' || conname FROM pg_trigger JOIN pg_constraint c ON c.oid = tgconstraint
WHERE tgisinternal AND tgenabled <> 'O' AND contype = 'f' ORDER BY 1"""
_HALF_MADE = """
SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indrelid
WHERE NOT indisvalid AND c.relkind <> 'p' AND indrelid >= 16384 ORDER BY 1"""
# 100 is the collation of the database; the version of one costs the server more than all else here
_SORTED_OTHERWISE = f"""
WITH used AS MATERIALIZED (SELECT indexrelid, unnest(indcollation) AS oid FROM pg_index WHERE indexrelid >= 16384),
here AS MATERIALIZED (SELECT oid, collversion FROM pg_collation
  WHERE oid IN (SELECT oid FROM used) AND collversion IS NOT NULL),
old AS (SELECT 100 AS oid FROM pg_database d WHERE d.oid = {_DATABASE}
    AND datcollversion <> pg_database_collation_actual_version(d.oid)
  UNION ALL SELECT oid FROM here WHERE collversion <> pg_collation_actual_version(oid))
SELECT DISTINCT indexrelid::regclass::text FROM used JOIN old USING (oid) ORDER BY 1"""
_QUESTIONS = (
    (
        "subscriptions",
        f"SELECT subname FROM pg_subscription WHERE subdbid = {_DATABASE} ORDER BY 1",
        "a restore leaves them disabled",
    ),
    ("transactions prepared for two-phase commit", _PREPARED, "what they would write is not in the dump"),
    ("the database's security labels", _LABELS, "they are not in the dump"),
    ("constraints that are NOT VALID", _NOT_VALID, "older rows may break them; a restore leaves them NOT VALID"),
    ("foreign keys whose triggers are off", _SWITCHED_OFF, "rows may break them; a restore checks the rows"),
    ("indexes that are not valid", _HALF_MADE, "they are not in the dump: REINDEX or drop them"),
    (
        "indexes on text that an older version of a collation sorted",
        _SORTED_OTHERWISE,
        "a unique one may have a value twice: REINDEX them, then REFRESH the VERSION of the collation",
    ),
)


def list_remarks(connection: ServerConnection) -> tuple[str, ...]:
    """Remarks on things that a dump of the connection's database lacks, or has in another way."""
    answers = [(what, connection.fetch_rows(question), effect) for what, question, effect in _QUESTIONS]
    return tuple(f"{what} ({_join(rows)}): {effect}" for what, rows, effect in answers if rows)


def _join(rows: list[tuple[str | None, ...]]) -> str:
    names = [name or "" for (name,) in rows[:_MOST_NAMES]]
    more = f" and {len(rows) - _MOST_NAMES} more" if len(rows) > _MOST_NAMES else ""
    return ", ".join(names) + more
