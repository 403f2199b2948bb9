"""A dump of PostgreSQL reads whatever pg_dump reads: rows without plans, thousands of tables, few sessions."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import DEVNULL
from typing import Any

import pytest

from tests.contract.database_engines import instead_of
from tests.contract.test_database_postgres import dump, leftovers, load, only, wait_for
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE
from tests.lab.postgresql import PSQL, ident, sql
from tests.lab.soak import SOAK, some
from tklb.databases.postgresql.script import cut_script

pytestmark = pytest.mark.lab

# Planning a query of these tables fails with an empty search path, or writes more than the server may.
UNPLANNABLE = """
CREATE SCHEMA tools;
SET search_path = public, tools;
CREATE TABLE tools.words (bad text, good text);
CREATE FUNCTION tools.clean(text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS
  $$ SELECT coalesce((SELECT good FROM words WHERE bad = $1), $1) $$;
CREATE FUNCTION tools.tidy(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(clean($1)) $$;
CREATE FUNCTION tools.is_tidy(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT $1 = tidy($1) $$;
CREATE TABLE by_index (id int PRIMARY KEY, name text);
CREATE INDEX ON by_index (tidy(name));
CREATE TABLE by_predicate (id int PRIMARY KEY, name text);
CREATE UNIQUE INDEX ON by_predicate (id) WHERE is_tidy(name);
CREATE TABLE by_statistics (id int PRIMARY KEY, name text);
CREATE STATISTICS kept ON (tidy(name)), id FROM by_statistics;
CREATE TABLE by_check (id int PRIMARY KEY, name text CHECK (is_tidy(name) IS NOT NULL));
CREATE TABLE by_column (id int PRIMARY KEY, name text, tidy text GENERATED ALWAYS AS (tidy(name)) STORED);
CREATE TABLE by_policy (id int PRIMARY KEY, name text);
CREATE POLICY own ON by_policy USING (is_tidy(name));
ALTER TABLE by_policy ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TABLE by_partition (id int, name text) PARTITION BY LIST (tidy(name));
CREATE TABLE part_a PARTITION OF by_partition DEFAULT;
CREATE TABLE parent (id int PRIMARY KEY, name text);
CREATE TABLE child () INHERITS (parent);
CREATE UNLOGGED TABLE by_memory (id int PRIMARY KEY, name text);
"""
TABLES = (
    *("by_index", "by_predicate", "by_statistics", "by_check", "by_column", "by_policy", "parent", "child"),
    *("by_memory", "part_a"),
)
LIMITS = (
    "enable_seqscan = off",
    "enable_indexscan = off",
    "statement_timeout = '1ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "temp_file_limit = '0kB'",
    "work_mem = '64kB'",
    "array_nulls = off",
)


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    with database_clone("bookworm", "postgresql", binds=TREE_INSIDE) as machine:
        sql(machine, "ALTER SYSTEM SET max_connections = 20; ALTER SYSTEM SET max_locks_per_transaction = 16")
        machine.stop("postgresql")
        machine.start("postgresql")
        yield machine


@pytest.fixture(autouse=True)
def no_folder(box: Appliance) -> None:
    box.run(["rm", "-rf", "/root/dump"])


def make(box: Appliance, name: str, *scripts: str) -> None:
    sql(box, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    sql(box, f"CREATE DATABASE {name} TEMPLATE template0")
    for script in scripts:
        sql(box, script, name)


def whole(answer: Any, name: str) -> dict[str, int]:
    """The numbers of rows by table, where nothing was skipped."""
    assert (answer["skipped"], answer["notes"]) == ([], [])
    return dict(answer["tables"][name])


def test_no_plan_and_no_setting_decides_whether_rows_are_read(box: Appliance) -> None:
    rows = "".join(
        f"INSERT INTO {table} (id, name) SELECT n, 'Name ' || n FROM generate_series(1, 99) n;" for table in TABLES
    )
    make(box, "planned", UNPLANNABLE, f"SET search_path = public, tools; {rows}")
    with pytest.raises(AssertionError, match="does not exist"):
        sql(box, "SET search_path = ''; SELECT count(*) FROM public.by_index", "planned")
    sql(box, "".join(f"ALTER DATABASE planned SET {limit};" for limit in LIMITS))
    taken = whole(dump(box, "/root/dump", overrides=only("planned")), "planned")
    assert taken == {**{f"public.{table}": 99 for table in TABLES}, "tools.words": 0}


def test_index_that_lacks_rows_hides_none(box: Appliance) -> None:
    make(
        box,
        "broken",
        "CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT n, n FROM generate_series(1, 9000) n",
    )
    lose = (
        "CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(1, 7000);"
        "CHECKPOINT; SELECT pg_relation_filepath('t_pkey'), pg_relation_filepath('other_pkey')"
    )
    mine, lesser = sql(box, lose, "broken").split()[-1].split("|")
    data = "/var/lib/postgresql/15/main"
    box.stop("postgresql")
    box.run(["cp", f"{data}/{lesser}", f"{data}/{mine}"])
    box.start("postgresql")
    sql(box, "DROP TABLE other", "broken")
    query = "SET enable_seqscan = off; SELECT count(*) FROM (SELECT id FROM t WHERE id > 0) x"
    assert int(sql(box, query, "broken").split()[-1]) < 9000
    assert whole(dump(box, "/root/dump", overrides=only("broken")), "broken") == {"public.t": 9000}


def test_unreadable_table_is_named_with_the_error_alone(box: Appliance) -> None:
    rows = "SELECT n, repeat('x', 500) FROM generate_series(1, 30000) n"
    make(box, "damaged", f"CREATE TABLE good AS {rows}; CREATE TABLE bad AS {rows}")
    paths = sql(box, "CHECKPOINT; SELECT pg_relation_filepath('bad')", "damaged").split()
    (bad,) = paths
    box.stop("postgresql")
    data = box.root / "var/lib/postgresql/15/main"
    with (data / bad).open("r+b") as stream:
        stream.seek(100 * 8192)
        stream.write(b"\xff" * 8192)
    box.start("postgresql")
    answer = dump(box, "/root/dump", overrides=only("damaged"))
    reasons = {item.rpartition("/")[2]: reason for item, reason in answer["skipped"]}
    assert set(reasons) == {"public.bad"}, reasons
    assert reasons["public.bad"].startswith("its rows were not dumped: invalid page in block 100")
    assert not {"CONTEXT", "COPY", "LINE", "\n"} & {word for reason in reasons.values() for word in reason.split(" ")}
    assert answer["tables"]["damaged"] == {"public.bad": None, "public.good": 30000}
    sql(box, "DROP DATABASE damaged")
    assert load(box, "/root/dump", "damaged")["failed"] is None


@pytest.mark.parametrize("name", some(["plain", 'o"dd, (t) \\ "" to program', "two\nlines"], 3, first=1))
def test_each_row_is_read_once(box: Appliance, name: str) -> None:
    rows = "SELECT n AS \"a,b )\", repeat('x', 99) AS c FROM generate_series(1, 30000) n"
    make(box, "once", f"CREATE TABLE {ident(name)} AS {rows}; CREATE TABLE other AS {rows}")
    sql(box, "VACUUM ANALYZE; SELECT pg_stat_reset()", "once")
    assert set(whole(dump(box, "/root/dump", overrides=only("once")), "once").values()) == {30000}
    scans = "SELECT DISTINCT seq_scan FROM pg_stat_user_tables WHERE seq_scan > 0"
    assert sql(box, f"SELECT pg_sleep(1); {scans}", "once").split() == ["1"]


def test_unchanged_rows_keep_their_files_and_an_update_touches_few(box: Appliance) -> None:
    make(box, "steady", "CREATE TABLE t (id uuid PRIMARY KEY, a text)")
    sql(
        box,
        "INSERT INTO t SELECT md5(n::text)::uuid, repeat(md5(n::text), 9) FROM generate_series(1, 99000) n",
        "steady",
    )

    def files() -> dict[str, bytes]:
        box.run(["rm", "-rf", "/root/dump"])
        whole(dump(box, "/root/dump", overrides=only("steady")), "steady")
        folder = box.root / "root/dump/steady/rows"
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first = files()
    sql(
        box,
        "SET synchronize_seqscans = on; SELECT count(*) FROM t; ANALYZE t; ALTER SYSTEM SET synchronize_seqscans = on",
        "steady",
    )
    assert files() == first
    sql(box, "UPDATE t SET a = 'other' WHERE id = md5('777')::uuid", "steady")
    second = files()
    changed = {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
    assert len(first) > 6
    assert 0 < len(changed) <= 4
    load(box, "/root/dump", "steady")
    assert files() == second  # a loaded table lies as the dump has it


@contextmanager
def full_pool(box: Appliance, left: int) -> Iterator[None]:
    """All sessions that the server has room for are taken, but for some of those that administrators have."""
    room = int(sql(box, "SHOW max_connections")) - left
    command = [*PSQL, "-d", "postgres", "-c", "SELECT pg_sleep(600)"]
    sessions = [box.popen(command, stdout=DEVNULL, stderr=DEVNULL) for _ in range(room)]
    try:
        wait_for(box, f"SELECT count(*) = {room} FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        yield
    finally:
        sql(box, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        for session in sessions:
            session.wait()


def test_dump_needs_no_more_sessions_than_pg_dump(box: Appliance) -> None:
    rows = "SELECT n, repeat('x', 500) FROM generate_series(1, 9000) n"
    make(
        box,
        "crowded",
        f"CREATE TABLE t (id serial PRIMARY KEY, a text); INSERT INTO t {rows}; CREATE VIEW v AS SELECT 1",
    )
    contents = []
    for left in (1, 2, 3, 20):
        box.run(["rm", "-rf", "/root/dump"])
        with full_pool(box, left):
            assert whole(dump(box, "/root/dump", overrides=only("crowded")), "crowded") == {"public.t": 9000}
        folder = box.root / "root/dump/crowded"
        contents.append({path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert all(one == contents[0] for one in contents)
    assert b"CREATE VIEW" in contents[0]["pre-data.sql"]


@contextmanager
def last_session(box: Appliance, is_taken: bool) -> Iterator[None]:
    """The last session of a full pool is taken too, for some seconds."""
    session = box.popen([*PSQL, "-d", "postgres", "-c", f"SELECT pg_sleep({15 if is_taken else 0})"], stdout=DEVNULL)
    time.sleep(2)
    yield
    session.wait()


def test_dump_of_a_full_server_waits_for_a_session_as_long_as_for_a_locked_table(box: Appliance) -> None:
    """Not one session is free at first, not even of those for administrators."""
    make(box, "waits", "CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    with full_pool(box, 1), last_session(box, is_taken=True):
        with pytest.raises(AssertionError, match=r"(too many clients|connection slots).*waited [4-7] seconds"):
            dump(box, "/root/dump", overrides=only("waits"), lock_seconds=4)
        box.run(["rm", "-rf", "/root/dump"])
        taken = dump(box, "/root/dump", overrides=only("waits"), lock_seconds=60)
    assert whole(taken, "waits") == {"public.t": 1}


@pytest.mark.parametrize("left", some([0, 1, 3, 4, 6, 2, 5], 3))
def test_load_with_few_sessions_brings_all_or_names_the_database_and_leaves_the_old_one(
    box: Appliance, left: int
) -> None:
    make(box, "busy", "CREATE TABLE t (id serial PRIMARY KEY, a text); INSERT INTO t (a) VALUES ('x'), ('y')")
    dump(box, "/root/dump", overrides=only("busy"))
    sql(box, "DROP TABLE t; CREATE TABLE old (a int)", "busy")
    with full_pool(box, max(left, 1)), last_session(box, is_taken=not left):
        answer = load(box, "/root/dump", "busy")
    came = sql(box, "SELECT to_regclass('t') IS NOT NULL", "busy") == "t\n"
    assert came is (answer["failed"] is None)
    assert answer["failed"] is None or "connection slots" in answer["failed"] or "too many clients" in answer["failed"]
    load(box, "/root/dump", "busy")
    assert leftovers(box) == ""


def test_load_needs_no_session_for_each_owner(box: Appliance) -> None:
    owners = [f"owner{number}" for number in range(20)]
    make(box, "shared", "; ".join(f"CREATE ROLE {owner}; CREATE TABLE {owner} (a int)" for owner in owners))
    fill = "ALTER TABLE {0} OWNER TO {0}; INSERT INTO {0} VALUES (1)"
    sql(box, "; ".join(fill.format(owner) for owner in owners), "shared")
    dump(box, "/root/dump", overrides=only("shared"))
    sql(box, "DROP DATABASE shared")
    answer = load(box, "/root/dump", "shared")
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert sql(box, "SELECT count(*) FROM owner19", "shared") == "1\n"


def make_tables(box: Appliance, name: str, count: int) -> None:
    make(box, name)
    each = "EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a text); INSERT INTO t%1$s VALUES (1)', n)"
    sql(box, f"DO $$ BEGIN FOR n IN 1..{count} LOOP {each}; COMMIT; END LOOP; END $$", name)


def test_as_many_tables_as_pg_dump_can_lock_are_dumped(box: Appliance) -> None:
    make_tables(box, "many", 450)
    box.run(["runuser", "-u", "postgres", "--", "pg_dump", "--file=/dev/null", "many"])
    taken = whole(dump(box, "/root/dump", overrides=only("many")), "many")
    assert taken == {f"public.t{number}": 1 for number in range(1, 451)}
    assert load(box, "/root/dump", "many")["failed"] is None
    assert sql(box, "SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND oid >= 16384", "many") == "450\n"


def test_more_tables_than_the_server_can_lock_name_the_setting_that_helps(box: Appliance) -> None:
    make_tables(box, "masses", 4000)
    ((item, reason),) = dump(box, "/root/dump", overrides=only("masses"))["skipped"]
    assert item == "pgsql:masses"
    assert "4000 tables" in reason
    assert "max_locks_per_transaction = 256" in reason
    sql(box, "DROP DATABASE masses")


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; some minutes for some thousands of tables")
@pytest.mark.parametrize(("count", "locks"), [(5_000, 64), (20_000, 64), (20_000, 512)])
def test_thousands_of_tables_make_the_trip_or_are_named(count: int, locks: int) -> None:
    with database_clone("bookworm", "postgresql", binds=TREE_INSIDE) as machine:
        sql(machine, f"ALTER SYSTEM SET max_locks_per_transaction = {locks}")
        machine.stop("postgresql")
        machine.start("postgresql")
        make_tables(machine, "thousands", count)
        answer = dump(machine, "/root/dump", overrides=only("thousands"))
        if (count, locks) == (20_000, 64):
            assert "max_locks_per_transaction = " in answer["skipped"][0][1]
            return
        assert len(whole(answer, "thousands")) == count
        sql(machine, "ALTER SYSTEM RESET max_locks_per_transaction")
        machine.stop("postgresql")
        machine.start("postgresql")
        assert load(machine, "/root/dump", "thousands")["failed"] is None
        assert sql(machine, f"SELECT id FROM t{count}", "thousands") == "1\n"


def test_only_a_wait_for_a_lock_shortens_later_waits(box: Appliance) -> None:
    """A failure of another kind, however late, says nothing about the locks of the next database."""
    first = ("a_broken", "a_2", "a_3", "a_4")  # their dumps are over before the next one begins
    for name in first:
        make(box, name, "CREATE TABLE t (a int)")
    make(box, "b_locked", "CREATE TABLE cache (a int); INSERT INTO cache VALUES (1)")
    pg_dump = "/usr/lib/postgresql/15/bin/pg_dump"
    slow = 'case "$*" in *a_broken*) sleep 4; echo "no room" >&2; exit 1 ;; esac; exec "$REAL" "$@"'
    command = [*PSQL, "-d", "b_locked", "-c", "BEGIN; LOCK TABLE cache; SELECT pg_sleep(12); COMMIT"]
    overrides = ["-pgsql:*", *(f"pgsql:{name}" for name in first), "pgsql:b_locked"]
    with instead_of(box, pg_dump, slow), box.popen(command, stdout=DEVNULL) as session:
        wait_for(box, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        answer = dump(box, "/root/dump", overrides=overrides, lock_seconds=7)
        session.wait()
    assert [item for item, _ in answer["skipped"]] == ["pgsql:a_broken"]
    assert answer["tables"]["b_locked"] == {"public.cache": 1}


LOOSE = """
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (a int, b int REFERENCES parent, c text COLLATE "de-x-icu");
ALTER TABLE child ADD CONSTRAINT loose FOREIGN KEY (a) REFERENCES parent NOT VALID;
ALTER TABLE child ADD CONSTRAINT small CHECK (a < 9) NOT VALID;
CREATE DOMAIN short AS text;
ALTER DOMAIN short ADD CONSTRAINT is_short CHECK (length(value) < 9) NOT VALID;
ALTER TABLE child DISABLE TRIGGER ALL;
CREATE INDEX half ON child (a);
CREATE UNIQUE INDEX by_text ON child (c);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'half'::regclass;
UPDATE pg_collation SET collversion = '1' WHERE collname = 'de-x-icu';
"""


def test_dump_says_which_constraints_rows_may_break_and_which_indexes_it_lacks(box: Appliance) -> None:
    make(box, "loose", LOOSE)
    answer = dump(box, "/root/dump", overrides=only("loose"))
    assert answer["skipped"] == []
    notes = {note.partition("): ")[0] for note in answer["notes"]}
    assert notes == {
        "pgsql:loose: constraints that are NOT VALID (public.child loose, public.child small, public.short is_short",
        "pgsql:loose: foreign keys whose triggers are off (public.child child_b_fkey, public.child loose",
        "pgsql:loose: indexes that are not valid (public.half",
        "pgsql:loose: indexes on text that an older version of a collation sorted (public.by_text",
    }


KINDS = r"""
CREATE SCHEMA s; COMMENT ON SCHEMA s IS 'x; -- Name: a; Type: INDEX; Schema: s; Owner: b';
CREATE TYPE s.mood AS ENUM ('a'); CREATE DOMAIN s.d AS text CHECK (value <> ''); CREATE SEQUENCE s.q;
CREATE TABLE s.t (id serial PRIMARY KEY, a int UNIQUE, b s.d DEFAULT 'x', m s.mood, CHECK (a > 0));
CREATE TABLE s.p (id int, k int) PARTITION BY RANGE (k);
CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES FROM (0) TO (10);
CREATE INDEX pi ON s.p (id); CREATE UNIQUE INDEX ON s.t (b, a); COMMENT ON INDEX s.pi IS 'index';
ALTER TABLE s.p1 ADD FOREIGN KEY (id) REFERENCES s.t; ALTER TABLE s.t ADD CONSTRAINT nv CHECK (id < 100) NOT VALID;
CREATE VIEW s.v AS SELECT * FROM s.t; COMMENT ON VIEW s.v IS 'view';
CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
--
-- Name: z; Type: INDEX; Schema: s; Owner: b
--
RETURN NEW; END$$;
REVOKE ALL ON FUNCTION s.f() FROM PUBLIC; GRANT SELECT ON s.t TO PUBLIC; GRANT SELECT (a) ON s.t TO PUBLIC;
CREATE FUNCTION s.g(int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT $1; END;
CREATE TRIGGER tr BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.f(); COMMENT ON TRIGGER tr ON s.t IS 'trigger';
ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO PUBLIC;
CREATE AGGREGATE s.ag (int) (sfunc = int4pl, stype = int);
CREATE OPERATOR s.=== (FUNCTION = int4eq, LEFTARG = int, RIGHTARG = int);
CREATE MATERIALIZED VIEW s.mv AS SELECT 1 AS a WITH NO DATA;
"""


def strip_guard(script: bytes) -> bytes:
    return re.sub(rb"\\(un)?restrict \w+\n\n", b"", script).rstrip(b"\n") + b"\n"


def test_short_script_is_cut_where_pg_restore_cuts_it(box: Appliance) -> None:
    make(box, "kinds", KINDS)
    programs = "/usr/lib/postgresql/15/bin"
    options = "--quote-all-identifiers --section=pre-data --section=post-data kinds"

    def run(command: str) -> bytes:
        return bytes(box.run(["runuser", "-u", "postgres", "--", "sh", "-c", command], text=False).stdout)

    cut = cut_script(strip_guard(run(f"{programs}/pg_dump --no-tablespaces {options}")))
    archive = f"{programs}/pg_dump -Fc -Z0 {options} | {programs}/pg_restore --no-tablespaces -f -"
    expected = [strip_guard(run(f"{archive} --section={name}")) for name in ("pre-data", "post-data")]
    assert cut is not None
    assert [text.replace(b'"', b"") for text in cut] == [text.replace(b'"', b"") for text in expected]


def test_script_with_an_unknown_kind_is_left_to_pg_restore(box: Appliance) -> None:
    make(box, "strange", "CREATE TABLE t (a int); CREATE PUBLICATION p FOR TABLE t")
    script = box.run(["runuser", "-u", "postgres", "--", "pg_dump", "--schema-only", "strange"], text=False).stdout
    assert cut_script(strip_guard(bytes(script))) is None
    assert dump(box, "/root/strange", overrides=["-pgsql:*", "pgsql:strange"])["skipped"] == []
    assert "CREATE PUBLICATION" in (box.root / "root/strange/strange/post-data.sql").read_text()
