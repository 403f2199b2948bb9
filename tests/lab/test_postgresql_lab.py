"""PostgreSQL's nasty content can be planted twice alike, and its checker sees everything that a restore could lose.

Takes the cached root of Debian 12 with PostgreSQL 15 (builds it where missing); touches clones only. All mutations
are planted at once, each in an object of its own: one reading finds them all, and nothing but them.
"""

# ruff: noqa: E501 - a mutation a line

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.lab.databases import database_clone
from tests.lab.postgresql import EVERYTHING, ODD_NAMES, PWNED, fill, plant_extension, sql
from tests.lab.postgresql_checker import Facts, compare, record
from tests.lab.soak import SOAK

# The judges of other tests, and the slowest: they change with their own files only.
pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1")]


class Mutation(NamedTuple):
    """`statement` in `database` must be told as `told`; `beside` is what else it changes. Both are regular expressions."""

    name: str
    statement: str | bytes
    told: str
    beside: str = "$."
    database: str = EVERYTHING


SILENT_BYTE = b"SET client_encoding = SQL_ASCII; UPDATE \"na\xefve\" SET t = 'caf\xe8' WHERE id = 1"
MOVED_ROW = "UPDATE app.measured_new SET region = 'none' WHERE at = '2001-01-01' AND region = 'fr' AND v = 1"
UNCHECKED = "DELETE FROM app.dirty WHERE a < 0; ALTER TABLE app.dirty VALIDATE CONSTRAINT not_valid_check"
TURNED = "CREATE OR REPLACE FUNCTION app.apart(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT abs($2 - $1)'"
OTHER_VIEW = "CREATE OR REPLACE VIEW app.grouped AS SELECT id, name, 1::bigint AS count FROM app.customers"
DEFAULT_RIGHT = "ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA app REVOKE SELECT ON TABLES FROM reader"
UNFILTERED = "ALTER PUBLICATION some_out SET TABLE app.customers (id, name), app.orders"
MUTATIONS = (
    Mutation("one value", "UPDATE app.hidden SET a = 2", "rows 'app.hidden': content"),
    Mutation("null for nothing", "UPDATE app.texts SET t = NULL WHERE id = 1", "rows 'app.texts': content"),
    Mutation("minus zero", "UPDATE app.numbers SET f8 = 0 WHERE id = 3", "rows 'app.numbers': content"),
    Mutation(
        "last bit of a float",
        "UPDATE app.other_floats SET f = 0.30000000000000004",
        "rows 'app.other_floats': content",
    ),
    Mutation(
        "row twice",
        "INSERT INTO app.heap VALUES (1, 'same')",
        "rows 'app.heap': rows: '6' became '7'",
        "rows 'app.heap'",
    ),
    Mutation(
        "row of no columns",
        "INSERT INTO app.no_columns DEFAULT VALUES",
        "rows 'app.no_columns': rows",
        "rows 'app.no_columns'",
    ),
    Mutation("row in another partition", MOVED_ROW, "rows 'app.measured_none': rows", "rows 'app.(measured|watch)"),
    Mutation(
        "byte of no encoding",
        SILENT_BYTE,
        "rows '\"na.ve\"': content|rows 'public.\"na.*ve\"': content",
        database="bytes",
    ),
    Mutation("grant on a table", "REVOKE SELECT ON app.moments FROM reader", "relations 'app.moments': acl"),
    Mutation(
        "grant on a column", 'REVOKE SELECT (id) ON app.customers FROM "it\'s"', "columns 'app.customers id': acl"
    ),
    Mutation(
        "grant option",
        "REVOKE GRANT OPTION FOR EXECUTE ON FUNCTION app.guarded(text) FROM reader",
        "functions 'app.guarded.text.': acl",
    ),
    Mutation(
        "grant on the system's function",
        "REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM owner",
        "brought 'pg_proc pg_read_file.text.'",
    ),
    Mutation(
        "grant on an extension's function",
        "GRANT EXECUTE ON FUNCTION extensions.crypt(text, text) TO PUBLIC",
        "brought 'pg_proc extensions.crypt",
    ),
    Mutation(
        "grant on a parameter",
        "REVOKE SET ON PARAMETER log_min_duration_statement FROM alice",
        "parameters 'log_min_duration_statement'",
    ),
    Mutation(
        "grant on a system's column",
        "REVOKE SELECT (oid) ON pg_authid FROM reader",
        "rights on columns of what others brought 'pg_catalog.pg_authid oid': missing",
    ),
    Mutation("default privilege", DEFAULT_RIGHT, "default privileges 'owner in app for r': missing"),
    Mutation(
        "owner of a table",
        "ALTER TABLE app.counted OWNER TO alice",
        "relations 'app.counted': owner: 'owner' became 'alice'",
        "relations 'app.(counted|\"odd seq)",
    ),
    Mutation(
        "owner of a database",
        'ALTER DATABASE "case" OWNER TO postgres',
        "databases 'case': owner",
        "databases 'case': acl",
    ),
    Mutation("sequence's position", "SELECT nextval('app.untouched')", "positions 'app.untouched': called"),
    Mutation(
        "sequence's step", "ALTER SEQUENCE app.set_not_called INCREMENT 2", "sequences 'app.set_not_called': increment"
    ),
    Mutation(
        "comment", "COMMENT ON COLUMN app.customers.name IS NULL", "comments 'table column app.customers.name': missing"
    ),
    Mutation("comment of a role", "COMMENT ON ROLE alice IS 'other'", "roles 'alice': comment"),
    Mutation("policy", "DROP POLICY upd ON app.secured", "policies 'app.secured upd': missing"),
    Mutation(
        "forced row security",
        "ALTER TABLE app.secured NO FORCE ROW LEVEL SECURITY",
        "relations 'app.secured': forced row security",
    ),
    Mutation("byte of a large object", "SELECT lo_put(900003, 7, '\\x01')", "large objects '900003': content"),
    Mutation("large object", "SELECT lo_unlink(900005)", "large objects '900005': missing"),
    Mutation("setting of a role", "ALTER ROLE alice SET work_mem = '8MB'", "settings 'role alice in ALL': settings"),
    Mutation(
        "setting of a database",
        f"ALTER DATABASE {EVERYTHING} RESET timezone",
        "settings 'role ALL in everything': settings",
    ),
    Mutation(
        "setting of a role in a database",
        f"ALTER ROLE alice IN DATABASE {EVERYTHING} RESET ALL",
        "settings 'role alice in everything': missing",
    ),
    Mutation("password", "ALTER ROLE bob PASSWORD NULL", "roles 'bob': password"),
    Mutation(
        "membership",
        "REVOKE ADMIN OPTION FOR writer FROM owner CASCADE",
        "memberships 'owner in writer': admin",
        "membership.*in writer",
    ),
    Mutation("lost database", "DROP DATABASE empty", "databases 'empty': missing"),
    Mutation("index", "DROP INDEX app.ix_hash", "indexes 'app.ix_hash': missing", "'app.ix_hash"),
    Mutation("clustering", "ALTER TABLE app.indexed SET WITHOUT CLUSTER", "indexes 'app.ix_expression': clustered"),
    Mutation("validity of a constraint", UNCHECKED, "constraints 'app.dirty not_valid_check': valid", "'app.dirty"),
    Mutation(
        "lost constraint",
        'ALTER TABLE app.booked DROP CONSTRAINT "excl def"',
        "constraints 'app.booked \"excl def\"': missing",
        "excl def",
    ),
    Mutation(
        "default of a column", "ALTER TABLE ONLY app.child ALTER t SET DEFAULT 'd'", "columns 'app.child t': default"
    ),
    Mutation(
        "identity", "ALTER TABLE app.counted ALTER id SET GENERATED BY DEFAULT", "columns 'app.counted id': identity"
    ),
    Mutation(
        "disabled trigger",
        "ALTER TABLE app.watched ENABLE TRIGGER disabled",
        "triggers 'app.watched disabled': enabled",
    ),
    Mutation("rule", 'ALTER TABLE app.ruled ENABLE RULE "never delete"', "rules 'app.ruled \"never delete\"': enabled"),
    Mutation("view", OTHER_VIEW, "relations 'app.grouped': definition"),
    Mutation(
        "matview without content",
        "REFRESH MATERIALIZED VIEW app.kept_of_kept WITH NO DATA",
        "relations 'app.kept_of_kept': populated",
        "rows 'app.kept_of_kept': missing",
    ),
    Mutation("storage parameter", "ALTER TABLE app.tuned SET (fillfactor = 51)", "relations 'app.tuned': options"),
    Mutation("body of a function", TURNED, "functions 'app.apart.*definition"),
    Mutation(
        "safe path of a function",
        "ALTER FUNCTION app.guarded(text) RESET search_path",
        "functions 'app.guarded.*definition",
    ),
    Mutation("label of an enum", "ALTER TYPE app.mood ADD VALUE 'late'", "types 'app.mood': labels"),
    Mutation(
        "mapping of a text search",
        "ALTER TEXT SEARCH CONFIGURATION app.ours DROP MAPPING FOR email",
        "configurations 'app.ours': map",
    ),
    Mutation("cast", "DROP CAST (app.mood AS text)", "casts 'app.mood to text': missing"),
    Mutation("extension", "DROP EXTENSION unaccent", "extensions 'unaccent': missing", "extension unaccent': missing"),
    Mutation(
        "password of a user mapping",
        "ALTER USER MAPPING FOR alice SERVER elsewhere OPTIONS (SET password 'x')",
        "user mappings 'alice on elsewhere': options",
    ),
    Mutation("row filter of a publication", UNFILTERED, "publications 'some_out': tables"),
    Mutation(
        "subscription's slot",
        "ALTER SUBSCRIPTION with_slot SET (slot_name = 'b_slot')",
        "subscriptions 'with_slot': slot",
    ),
    Mutation("event trigger", "ALTER EVENT TRIGGER frozen DISABLE", "event triggers 'frozen': enabled"),
    Mutation(
        "target of statistics", "ALTER STATISTICS app.st_all SET STATISTICS 78", "statistics 'app.st_all': target"
    ),
    Mutation(
        "unlogged", "ALTER TABLE app.unlogged SET LOGGED", "relations 'app.unlogged': persistence", "'app.unlogged"
    ),
    Mutation(
        "partition cut off",
        "ALTER TABLE app.late_parent DETACH PARTITION app.joined_late",
        "relations 'app.joined_late': parents",
        "'app.joined_late",
    ),
)


class Readings(NamedTuple):
    """Of a server, of another one filled alike and of that after all mutations; was an escape obeyed on any."""

    one: Facts
    other: Facts
    mutated: Facts
    pwned: bool


@pytest.fixture(scope="module")
def readings() -> Iterator[Readings]:
    with database_clone("bookworm", "postgresql") as a, database_clone("bookworm", "postgresql", hostname="b") as b:
        for machine in (a, b):
            plant_extension(machine)
            fill(machine, risky=True)
        one, other = record(a), record(b)
        for mutation in MUTATIONS:
            sql(b, mutation.statement, mutation.database)
        mutated = record(b, only=[EVERYTHING, "bytes"])
        yield Readings(one, other, mutated, any((machine.root / PWNED).exists() for machine in (a, b)))


def test_two_fills_are_alike_and_facts_survive_json(readings: Readings) -> None:
    assert compare(json.loads(json.dumps(readings.one)), readings.other) == []


def test_fills_of_two_releases_are_alike(readings: Readings) -> None:
    with database_clone("trixie", "postgresql") as newer:
        plant_extension(newer)
        fill(newer, risky=True)
        facts = record(newer)
    assert facts["version"] > readings.one["version"]
    assert compare(readings.one, facts, allowed=["^database '(unqualified|gone extensions)'"]) == []


def test_every_database_is_looked_into(readings: Readings) -> None:
    cluster, found = readings.one["cluster"]["databases"], readings.one["databases"]
    assert found.keys() == cluster.keys() - {"template0", "half_dropped"}
    assert all(found[name]["rows"]["public.who"]["rows"] == "1" for name in ODD_NAMES)
    assert found["closed"]["rows"]["public.plain"]["rows"] == "3"
    assert cluster["closed"]["connectable"] == "f"


def test_no_catalogue_is_empty_where_everything_is(readings: Readings) -> None:
    found = readings.one["databases"][EVERYTHING]
    assert [name for name, facts in found.items() if not facts] == ["security labels"]


def test_planting_obeys_no_escape(readings: Readings) -> None:
    assert not readings.pwned


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_checker_sees(mutation: Mutation, readings: Readings) -> None:
    assert [line for line in compare(readings.one, readings.mutated) if re.search(mutation.told, line, re.DOTALL)]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_checker_sees_across_releases(mutation: Mutation, readings: Readings) -> None:
    older = readings.one | {"version": 14}
    assert [line for line in compare(older, readings.mutated) if re.search(mutation.told, line, re.DOTALL)]


def test_checker_tells_of_nothing_else(readings: Readings) -> None:
    explained = re.compile("|".join(f"{mutation.told}|{mutation.beside}" for mutation in MUTATIONS), re.DOTALL)
    assert [line for line in compare(readings.one, readings.mutated) if not explained.search(line)] == []


def test_what_is_allowed_is_not_told(readings: Readings) -> None:
    other = json.loads(json.dumps(readings.one))
    other["cluster"]["roles"]["postgres"]["password"] = "x"
    assert len(compare(readings.one, other)) == 1
    assert compare(readings.one, other, allowed=["^cluster: roles 'postgres': password"]) == []
