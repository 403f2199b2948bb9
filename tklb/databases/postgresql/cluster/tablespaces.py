"""Tablespaces of a cluster, and what lies in them: out of the server and back.

A folder is made only where root alone decides what stands above it. Where a tablespace cannot be had, all that it held
comes into the default one, and that is reported. Takes connections; gives plain values and reasons for people. Sources:
CREATE TABLESPACE, pg_tablespace and pg_class of PostgreSQL's manual.
"""

import json
import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tklb.databases.data_folders import make_folder
from tklb.databases.postgresql import ADMINISTRATOR
from tklb.databases.postgresql.connection import ServerConnection, ServerError, quote_name, quote_text
from tklb.lazy_dataclass import dataclass

_OPTIONS = frozenset(
    ("seq_page_cost", "random_page_cost", "effective_io_concurrency", "maintenance_io_concurrency")
)  # that a tablespace can have
_KINDS = {
    "r": "TABLE",
    "p": "TABLE",
    "m": "MATERIALIZED VIEW",
    "i": "INDEX",
    "I": "INDEX",
}  # of pg_class, and as ALTER has them
INDEXES = ("i", "I")


@dataclass(frozen=True, slots=True)
class RelationPlace:
    """A relation that is not in the default tablespace of its database. `kind` is that of pg_class."""

    schema: str
    name: str
    kind: str
    space: str


def list_tablespaces(connection: ServerConnection, grants: str) -> list[dict[str, Any]]:
    """List the tablespaces that an administrator made. `grants` is the expression that gives privileges as JSON."""
    rows = connection.fetch_rows(
        "SELECT spcname, pg_get_userbyid(spcowner), pg_tablespace_location(oid),"
        f" shobj_description(oid, 'pg_tablespace'), array_to_json(spcoptions), {grants}"
        ' FROM pg_tablespace WHERE oid >= 16384 ORDER BY spcname COLLATE "C"'
    )
    names = ("name", "owner", "location", "comment")
    return [
        {
            **dict(zip(names, row[:4], strict=True)),
            "options": json.loads(row[4] or "[]"),
            "grants": json.loads(row[5] or "null"),
        }
        for row in rows
    ]


def make_tablespace(connection: ServerConnection, saved: Mapping[str, Any], owner: str) -> str:
    """Make a tablespace that is not here; say why that cannot be, or what of it does not come."""
    name, location = str(saved["name"]), str(saved["location"])
    if connection.fetch_rows("SELECT FROM pg_tablespace WHERE spcname = $1", name):
        return ""
    if reason := _prepare_folder(connection, location):
        return f"{reason}; what it held comes into the default tablespace"
    this = f"TABLESPACE {quote_name(name)}"
    try:
        connection.run(f"CREATE {this} OWNER {quote_name(owner)} LOCATION {quote_text(location)}")
    except ServerError as exc:
        return f"{exc}; what it held comes into the default tablespace"
    statements = [f"COMMENT ON {this} IS {quote_text(str(saved['comment']))}"] if saved["comment"] else []
    statements += [f"ALTER {this} SET ({quote_name(key)} = {float(value)})" for key, value in _read_options(saved)]
    return "; ".join(reason for statement in statements if (reason := _try(connection, statement)))


def _read_options(saved: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    pairs = (str(option).partition("=") for option in saved["options"])
    yield from ((key, value) for key, _, value in pairs if key in _OPTIONS)


def _try(connection: ServerConnection, statement: str) -> str:
    try:
        connection.run(statement)
    except ServerError as exc:
        return str(exc)
    return ""


def _prepare_folder(connection: ServerConnection, location: str) -> str:
    """Make the folder of a tablespace, or find it empty and the server's own; say why it cannot be used."""
    if connection.login.is_elsewhere:
        return "the files of the server are not of this machine"
    if not location.startswith("/"):
        return "it has no folder of its own"
    account = connection.login.account or ADMINISTRATOR
    make_folder(location, account, 0o700)
    if not os.path.isdir(location) or os.path.islink(location):
        return f"its folder {location} is not here, and cannot be made safely"
    if os.stat(location).st_uid != pwd.getpwnam(account).pw_uid:
        return f"its folder {location} does not belong to {account}"
    return ""


# ---------------------------------------------------------------- what lies in them


def read_default_space(connection: ServerConnection) -> str:
    """The tablespace of the connection's database; empty for that of every database."""
    query = "SELECT spcname FROM pg_tablespace t JOIN pg_database d ON t.oid = dattablespace"
    return connection.fetch_value(f"{query} WHERE datname = current_database() AND t.oid >= 16384") or ""


def list_places(connection: ServerConnection) -> list[list[str]]:
    """List the relations of the connection's database that are in a tablespace of their own."""
    rows = connection.fetch_rows(
        "SELECT n.nspname, c.relname, c.relkind, t.spcname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE t.oid >= 16384 AND c.relpersistence <> 't'"
        " AND c.relkind = ANY ('{r,p,m,i,I}') AND n.nspname !~ '^pg_' ORDER BY 1, 2"
    )
    return [[value or "" for value in row] for row in rows]


def parse_places(value: Iterable[Any]) -> tuple[RelationPlace, ...]:
    """Parse what list_places gave. Raises KeyError, TypeError, ValueError."""
    places = tuple(RelationPlace(*map(str, each)) for each in value)
    if any(place.kind not in _KINDS for place in places):
        raise ValueError("a relation is of no kind")
    return places


def has_tablespace(connection: ServerConnection, name: str) -> bool:
    return bool(connection.fetch_rows("SELECT FROM pg_tablespace WHERE spcname = $1", name))


def move_relations(connection: ServerConnection, places: Iterable[RelationPlace], *, indexes: bool) -> Iterator[str]:
    """Put relations into their tablespaces, all but indexes or these alone; give texts about those that stay."""
    for place in (each for each in places if (each.kind in INDEXES) is indexes):
        relation = quote_name(place.schema, place.name)
        move = f"ALTER {_KINDS[place.kind]} {relation} SET TABLESPACE {quote_name(place.space)}"
        if reason := _try(connection, move):
            yield f"{place.schema}.{place.name} is in the default tablespace: {reason}"
