"""Definitions that the new server refuses are named; they cost neither rows nor the rest of a PostgreSQL database."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_database_postgres import START, dump, leftovers, load, only
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE, call
from tests.lab.postgresql import BARE_PSQL, sql

pytestmark = pytest.mark.lab

NUMBERS = itertools.count()
FOLDER = "usr/share/postgresql/{}"
EXTENSION = r"""
CREATE FUNCTION handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE LANGUAGE lab HANDLER handler;
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION one() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION fits(int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION watch_all() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION foreign_handler() RETURNS fdw_handler LANGUAGE c AS '$libdir/file_fdw', 'file_fdw_handler';
CREATE ACCESS METHOD lab_heap TYPE TABLE HANDLER heap_tableam_handler;
"""
# What hangs on the extension: the name of each refused object, and what its reason has in it.
HANGING = """
CREATE EXTENSION lab_gone SCHEMA labs;
CREATE TABLE paired (id int, p labs.pair); INSERT INTO paired VALUES (1, (1, 2)), (2, NULL);
CREATE TABLE defaulted (id int DEFAULT labs.one() NOT NULL, name text DEFAULT 'x');
INSERT INTO defaulted VALUES (5), (6);
CREATE TABLE checked (id int, CONSTRAINT fits CHECK (labs.fits(id)), CONSTRAINT positive CHECK (id > 0));
INSERT INTO checked VALUES (7), (8);
CREATE TABLE computed (id int, twice int GENERATED ALWAYS AS (id + labs.one()) STORED);
INSERT INTO computed VALUES (1), (2);
SET default_table_access_method = labs_heap;
"""
HANGING_TOO = """
CREATE TABLE odd_heap (id int) USING lab_heap; INSERT INTO odd_heap VALUES (1);
CREATE VIEW looks AS SELECT labs.one() AS one;
CREATE VIEW looks_again AS SELECT one FROM looks;
COMMENT ON VIEW looks_again IS 'again'; GRANT SELECT ON looks TO PUBLIC;
CREATE MATERIALIZED VIEW kept AS SELECT id FROM paired;
CREATE FUNCTION speaks() RETURNS int LANGUAGE lab AS 'BEGIN RETURN 1; END';
CREATE INDEX by_one ON defaulted ((id + labs.one()));
CREATE STATISTICS counts (mcv) ON id, (id + labs.one()) FROM defaulted;
CREATE TRIGGER watched BEFORE INSERT ON defaulted FOR EACH ROW EXECUTE FUNCTION labs.watch();
CREATE EVENT TRIGGER watched_all ON ddl_command_end EXECUTE FUNCTION labs.watch_all();
CREATE FOREIGN DATA WRAPPER lab_wrapper HANDLER labs.foreign_handler;
CREATE SERVER lab_server FOREIGN DATA WRAPPER lab_wrapper;
CREATE FOREIGN TABLE far (id int) SERVER lab_server;
CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int);
CREATE OPERATOR <<<< (FUNCTION = labs.fits, RIGHTARG = int);
ALTER TABLE checked ENABLE ROW LEVEL SECURITY;
CREATE POLICY open ON checked USING (true);
CREATE POLICY closed ON checked AS RESTRICTIVE USING (labs.fits(id));
CREATE PUBLICATION published FOR TABLE defaulted, paired;
CREATE TABLE plain (id int PRIMARY KEY); INSERT INTO plain VALUES (1), (2), (3);
"""


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    with database_clone("bookworm", "postgresql", binds=TREE_INSIDE) as machine:
        yield machine


@pytest.fixture
def name(box: Appliance) -> Iterator[str]:
    database = f"refused_{next(NUMBERS)}"
    sql(box, f"CREATE DATABASE {database} TEMPLATE template0")
    yield database
    sql(box, f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


def trip(box: Appliance, name: str, *, drops: bool = True) -> dict[str, str]:
    """Dump, drop and load a database; the objects that are named, with their reasons."""
    folder = f"/root/{name}_{next(NUMBERS)}"
    dump(box, folder, overrides=only(name))
    if drops:
        sql(box, f"DROP DATABASE {name}")
    return named(load(box, folder, name), name)


def named(brought: Any, name: str) -> dict[str, str]:
    assert brought["failed"] is None
    assert brought["notes"] == []
    found: dict[str, str] = {}
    for item, reason in brought["skipped"]:
        assert item.startswith(f"pgsql:{name}/"), item
        label = item.partition("/")[2]
        assert label not in found, (label, reason, found[label])
        found[label] = reason
    return found


def plant(box: Appliance, script: str = EXTENSION) -> None:
    folder = box.root / FOLDER.format(15) / "extension"
    (folder / "lab_gone.control").write_text("default_version = '1.0'\nrelocatable = false\n")
    (folder / "lab_gone--1.0.sql").write_text(script)


def unplant(box: Appliance) -> None:
    for path in (box.root / FOLDER.format(15) / "extension").glob("lab_gone*"):
        path.unlink()


BROKEN = """
CREATE TABLE customer (id int PRIMARY KEY);
CREATE TABLE bill (id int, customer int REFERENCES customer);
INSERT INTO customer VALUES (1), (2);
ALTER TABLE bill DISABLE TRIGGER ALL; INSERT INTO bill VALUES (1, 1), (2, 99); ALTER TABLE bill ENABLE TRIGGER ALL;
CREATE TABLE tag (name text); CREATE UNIQUE INDEX tag_name ON tag (name); COMMENT ON INDEX tag_name IS 'names';
CREATE TABLE post (id int PRIMARY KEY); CREATE TABLE reply (post int REFERENCES post);
CREATE TABLE booking (during int4range, EXCLUDE USING gist (during WITH &&));
UPDATE pg_index SET indisunique = false, indisexclusion = false
  WHERE indexrelid::regclass::text ~ '^(tag_name|post_pkey|booking)';
"""
DUPLICATES = """
INSERT INTO tag VALUES ('a'), ('a'), ('b'); INSERT INTO post VALUES (1), (1);
INSERT INTO booking VALUES ('[1,5]'), ('[3,9]');
UPDATE pg_index SET indisunique = true WHERE indexrelid::regclass::text ~ '^(tag_name|post_pkey)';
UPDATE pg_index SET indisexclusion = true WHERE indexrelid::regclass::text ~ '^booking';
"""


def test_keys_that_rows_break_are_named_and_all_rows_come(box: Appliance, name: str) -> None:
    sql(box, BROKEN, name)
    sql(box, DUPLICATES, name)
    found = trip(box, name)
    assert found.keys() == {
        "public.bill bill_customer_fkey",
        "public.tag_name",
        "public.post post_pkey",
        "public.reply reply_post_fkey",
        "public.booking booking_during_excl",
    }
    assert "NOT VALID here" in found["public.bill bill_customer_fkey"]
    assert "(customer)=(99)" in found["public.bill bill_customer_fkey"]
    assert "(name)=(a) is duplicated" in found["public.tag_name"]
    assert "no unique constraint matching" in found["public.reply reply_post_fkey"]
    counts = " UNION ALL ".join(f"SELECT count(*) FROM {each}" for each in ("bill", "tag", "post", "booking"))
    assert sql(box, counts, name) == "2\n3\n2\n2\n"
    with pytest.raises(AssertionError, match="foreign key"):
        sql(box, "INSERT INTO bill VALUES (3, 98)", name)


RULES = """
CREATE FUNCTION ok(int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE DOMAIN small AS int CONSTRAINT is_small CHECK (public.ok(VALUE));
CREATE TABLE checked (n int CONSTRAINT is_ok CHECK (public.ok(n)), s small);
CREATE TABLE parted (n int CHECK (public.ok(n))) PARTITION BY RANGE (n);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
INSERT INTO checked VALUES (1, 1), (200, 200); INSERT INTO parted VALUES (1), (15);
CREATE TABLE needed (id int, name text); INSERT INTO needed VALUES (1, NULL), (2, 'x');
UPDATE pg_attribute SET attnotnull = true WHERE attrelid = 'needed'::regclass AND attname = 'name';
CREATE OR REPLACE FUNCTION ok(int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 < 10';
"""


def test_rules_that_rows_break_are_named_and_all_rows_come(box: Appliance, name: str) -> None:
    sql(box, RULES, name)
    found = trip(box, name)
    assert found.keys() == {
        "public.checked is_ok",
        "public.small is_small",
        "public.parted parted_n_check",
        "public.needed",
    }
    assert all("NOT VALID here" in reason for label, reason in found.items() if label != "public.needed")
    assert "contains null values" in found["public.needed"]
    counts = "SELECT count(*) FROM checked UNION ALL SELECT count(*) FROM parted UNION ALL SELECT count(*) FROM needed"
    assert sql(box, counts, name) == "2\n2\n2\n"
    for row in ("checked VALUES (11, 1)", "checked VALUES (1, 11)", "parted VALUES (12)"):
        with pytest.raises(AssertionError, match="violates check"):
            sql(box, f"INSERT INTO {row}", name)


def test_what_hangs_on_an_extension_that_is_not_offered_is_named_and_the_rest_comes(box: Appliance, name: str) -> None:
    plant(box)
    sql(box, "CREATE SCHEMA labs;" + HANGING.replace("SET default_table_access_method = labs_heap;", ""), name)
    sql(box, HANGING_TOO, name)
    dump(box, f"/root/{name}", overrides=only(name))
    sql(box, f"DROP DATABASE {name}")
    unplant(box)
    found = named(load(box, f"/root/{name}", name), name)
    assert "its 2 rows are not here" in found["public.paired"]
    assert "labs.pair" in found["public.paired"]
    assert found["public.computed"].startswith("column twice has no GENERATED ALWAYS AS")
    assert found["public.checked closed"].startswith("POLICY")
    assert found.keys() == NAMED
    counts = " UNION ALL ".join(
        f"SELECT count(*) FROM {each}" for each in ("defaulted", "checked", "computed", "odd_heap", "plain")
    )
    assert sql(box, counts, name) == "2\n2\n2\n1\n3\n"
    assert sql(box, "INSERT INTO defaulted (id) VALUES (9) RETURNING name", name) == "x\n"
    with pytest.raises(AssertionError, match="positive"):
        sql(box, "INSERT INTO checked VALUES (-1)", name)
    sql(box, "CREATE ROLE reader; GRANT SELECT ON checked TO reader; CREATE TABLE reads AS SELECT 1 AS one", name)
    assert sql(box, "SET ROLE reader; SELECT count(*) FROM checked", name) == "0\n"
    sql(box, "DROP OWNED BY reader; DROP ROLE reader", name)


NAMED = {
    "lab_gone",
    "public.paired",
    "public.defaulted",
    "public.checked fits",
    "public.checked closed",
    "public.computed",
    "SET default_table_access_method = lab_heap",
    "public.looks",
    "public.looks_again",
    "public.kept",
    "public.speaks()",
    "public.by_one",
    "public.counts",
    "public.defaulted watched",
    "watched_all",
    "lab_wrapper",
    "lab_server",
    "public.far",
    "public.<<<<",
    "public.published paired",
}


def test_dictionary_without_its_stop_words_is_named_and_its_tables_come(box: Appliance, name: str) -> None:
    words = box.root / FOLDER.format(15) / "tsearch_data/ours.stop"
    words.write_text("the\n")
    sql(box, SEARCH, name)
    dump(box, f"/root/{name}", overrides=only(name))
    sql(box, f"DROP DATABASE {name}")
    words.unlink()
    found = named(load(box, f"/root/{name}", name), name)
    assert "stop-word file" in found["public.ours"]
    assert set(found) == {"public.ours", "public.searched"}
    assert sql(box, "SELECT count(*) FROM page WHERE words @@ to_tsquery('public.searched', 'house')", name) == "1\n"


SEARCH = """
CREATE TEXT SEARCH DICTIONARY ours (TEMPLATE = snowball, LANGUAGE = english, STOPWORDS = ours);
CREATE TEXT SEARCH CONFIGURATION searched (COPY = english);
ALTER TEXT SEARCH CONFIGURATION searched ALTER MAPPING FOR asciiword WITH ours, english_stem;
ALTER TEXT SEARCH CONFIGURATION searched ALTER MAPPING FOR word WITH english_stem;
CREATE TABLE page (body text, words tsvector GENERATED ALWAYS AS (to_tsvector('public.searched', body)) STORED);
CREATE INDEX ON page USING gin (words);
INSERT INTO page VALUES ('the house'), ('a \u00fcmlaut h\u00f6use');
"""


def test_rows_that_are_here_are_not_given_up_for_a_table_that_cannot_be_made(box: Appliance, name: str) -> None:
    plant(box)
    sql(box, "CREATE SCHEMA labs; CREATE EXTENSION lab_gone SCHEMA labs; CREATE TABLE t (p labs.pair)", name)
    sql(box, "INSERT INTO t VALUES ((1, 2)); CREATE TABLE other (a int)", name)
    dump(box, f"/root/{name}", overrides=only(name))
    sql(box, "DROP TABLE t; CREATE TABLE t (a int); INSERT INTO t VALUES (5)", name)
    unplant(box)
    failed = load(box, f"/root/{name}", name)["failed"]
    assert "public.t" in failed
    assert "labs.pair" in failed
    assert sql(box, "SELECT a FROM t", name) == "5\n"
    assert leftovers(box) == ""
    sql(box, "DELETE FROM t", name)
    assert set(named(load(box, f"/root/{name}", name), name)) == {"lab_gone", "public.t"}


def test_function_of_the_owner_comes_with_its_owner_or_not_at_all(box: Appliance, name: str) -> None:
    """A function that kept the administrator as its owner would run with all rights."""
    sql(box, "CREATE ROLE bob", name)
    sql(box, "CREATE FUNCTION f() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'", name)
    sql(box, "ALTER FUNCTION f() OWNER TO bob; CREATE TABLE t (a int)", name)
    dump(box, f"/root/{name}", overrides=only(name))
    for path in (box.root / f"root/{name}").rglob("pre-data.sql"):
        path.write_bytes(path.read_bytes().replace(b'OWNER TO "bob";', b'OWNER TO "nobody here";'))
    sql(box, f"DROP DATABASE {name}")
    found = named(load(box, f"/root/{name}", name), name)
    assert found.keys() == {"public.f()"}
    assert "nobody here" in found["public.f()"]
    assert sql(box, "SELECT count(*) FROM pg_proc WHERE proname = 'f'", name) == "0\n"
    sql(box, "DROP ROLE bob")


ACROSS = """
CREATE EXTENSION postgres_fdw;
CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'zz_other', host '/run/postgresql');
CREATE USER MAPPING FOR postgres SERVER other;
CREATE FOREIGN TABLE far (id int) SERVER other OPTIONS (table_name 'near');
CREATE MATERIALIZED VIEW gathered AS SELECT id FROM far;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM gathered;
"""


def test_what_needs_a_database_that_is_loaded_later_comes_then(box: Appliance, name: str) -> None:
    sql(box, "CREATE DATABASE zz_other TEMPLATE template0")
    sql(box, "CREATE TABLE near AS SELECT n AS id FROM generate_series(1, 5) n", "zz_other")
    sql(box, ACROSS, name)
    dump(box, f"/root/{name}", overrides=[*only(name), "pgsql:zz_other"])
    sql(box, f"DROP DATABASE {name}")
    sql(box, "DROP DATABASE zz_other")
    assert load(box, f"/root/{name}") == {"failed": None, "skipped": [], "notes": []}
    assert sql(box, "SELECT count FROM counted", name) == "5\n"
    sql(box, f"DROP DATABASE {name}")
    sql(box, "DROP DATABASE zz_other")
    found = named(load(box, f"/root/{name}", name), name)
    assert found.keys() == {"public.gathered", "public.counted"}
    assert "zz_other" in found["public.gathered"]


def test_extension_comes_in_the_version_that_it_had(box: Appliance, name: str) -> None:
    sql(box, "CREATE EXTENSION hstore VERSION '1.6'; CREATE EXTENSION pg_trgm", name)
    assert trip(box, name) == {}
    versions = "SELECT extname, extversion FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1"
    assert sql(box, versions, name) == "hstore|1.6\npg_trgm|1.6\n"


NAMED_EXTENSION = """
DO $$ BEGIN IF current_database() <> '%s' THEN RAISE 'can only create extension in database %s'; END IF; END $$;
DO $$ DECLARE path text; BEGIN
  SELECT reset_val INTO path FROM pg_settings WHERE name = 'search_path';
  EXECUTE 'ALTER DATABASE ' || quote_ident(current_database()) || ' SET search_path = ' || path || ', labs';
END $$;
DO $$ BEGIN
  IF current_setting('pgaudit.log', true) = 'all' THEN RAISE 'set pgaudit.log to none before installing'; END IF;
END $$;
CREATE TABLE job (id int PRIMARY KEY, command text, who text DEFAULT current_user);
CREATE TABLE run (id int REFERENCES job); SELECT pg_extension_config_dump('run', '');
ALTER TABLE job ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON job USING (who = current_user);
SELECT pg_extension_config_dump('job', '');
"""


def test_extension_that_looks_at_its_database_finds_the_final_name_and_common_settings(
    box: Appliance, name: str
) -> None:
    plant(box, script=NAMED_EXTENSION % (name, name))
    sql(box, "CREATE SCHEMA labs; CREATE EXTENSION lab_gone SCHEMA labs", name)
    sql(box, f"ALTER DATABASE {name} SET pgaudit.log = 'all'", name)
    sql(box, "INSERT INTO labs.job VALUES (1, 'vacuum'); INSERT INTO labs.run VALUES (1)", name)
    assert trip(box, name) == {}
    assert sql(box, "SELECT command FROM labs.job", name) == "vacuum\n"
    sql(box, "INSERT INTO labs.job VALUES (2, 'analyze')", name)
    assert trip(box, name, drops=False) == {}, "it has its final name only after the swap"
    assert sql(box, "SELECT count(*) FROM labs.job", name) == "2\n"
    dump(box, f"/root/{name}", overrides=only(name))
    unplant(box)
    assert "labs.job" in load(box, f"/root/{name}", name)["failed"]
    assert sql(box, "SELECT count(*) FROM labs.job", name) == "2\n", "the old database is back, with its rows"
    assert leftovers(box) == ""


def test_half_loaded_database_is_shut_left_out_of_backups_and_gone_after_a_kill(box: Appliance, name: str) -> None:
    sql(box, "CREATE ROLE visitor LOGIN PASSWORD 'v'; CREATE TABLE t AS SELECT generate_series(1, 9) AS a", name)
    sql(box, f"GRANT CREATE ON DATABASE {name} TO visitor; COMMENT ON DATABASE {name} IS 'ours'")
    access = "SELECT datacl, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    before = sql(box, access, name)
    dump(box, f"/root/{name}", overrides=only(name))
    sql(box, f"DROP DATABASE {name}")
    assert killed(box, name) == 9
    assert dump(box, f"/root/{name}_half", overrides=only(name))["tables"] == {}
    visit = [*BARE_PSQL, "-X", "-h", "127.0.0.1", "-U", "visitor", "-d", name, "-c", "SELECT 1"]
    assert "permission denied" in box.run(visit, env={"PGPASSWORD": "v"}, check=False).stderr
    load(box, f"/root/{name}_half")
    assert named(load(box, f"/root/{name}", name), name) == {}
    assert sql(box, access, name) == before
    assert box.run(visit, env={"PGPASSWORD": "v"}).returncode == 0
    sql(box, f"DROP DATABASE {name}; DROP ROLE visitor")


def killed(box: Appliance, name: str) -> Any:
    return call(
        box,
        textwrap.dedent(START)
        + textwrap.dedent("""
            import os, signal
            from tklb.databases.postgresql.connection import ServerConnection
            child = os.fork()
            if not child:
                copy_in = ServerConnection.copy_in
                def kill(self, *words):
                    os.kill(os.getpid(), signal.SIGKILL)
                ServerConnection.copy_in = kill
                (saved,) = read_server(DumpFolder((Path(values["folder"]),))).databases
                server.load_database(DumpFolder((Path(values["folder"]),)), DatabaseLoad(saved, saved.name), nothing)
                os._exit(0)
            answer = os.waitpid(child, 0)[1]
            """),
        folder=f"/root/{name}",
    )


def test_settings_of_server_database_and_role_refuse_no_load(box: Appliance, name: str) -> None:
    """A library that is missing refuses every session of the database, and a time limit every long statement."""
    sql(box, "CREATE TABLE t AS SELECT generate_series(1, 9) AS a; CREATE VIEW v AS SELECT a FROM t", name)
    settings = ("session_preload_libraries = 'nowhere'", "default_transaction_read_only = on", "search_path = nowhere")
    settings += ("default_tablespace = 'nowhere'", "statement_timeout = '1ms'", "check_function_bodies = on")
    sql(box, "".join(f"ALTER DATABASE {name} SET {setting};" for setting in settings))
    sql(box, "ALTER ROLE ALL SET default_transaction_isolation = 'serializable'; ALTER ROLE ALL SET row_security = on")
    try:
        for lacking in (["default_tablespace", "session_preload_libraries"], ["default_tablespace"]):
            folder = f"/root/{name}_{next(NUMBERS)}"
            dump(box, folder, overrides=only(name))
            brought = load(box, folder, name)
            assert brought["failed"] is None
            assert [item for item, _ in brought["skipped"]] == [f"pgsql:{name}"] * len(lacking)
            assert [reason.split(":")[0] for _, reason in brought["skipped"]] == [f"its setting {s}" for s in lacking]
    finally:
        sql(box, "ALTER ROLE ALL RESET ALL")
        sql(box, f"ALTER DATABASE {name} RESET ALL")
    assert sql(box, "SELECT count(*) FROM v", name) == "9\n"


def test_view_of_what_a_newer_server_has_not_is_named(tmp_path: Path) -> None:
    binds = {**TREE_INSIDE, tmp_path: "/mnt/share"}
    with (
        database_clone("bookworm", "postgresql", binds=binds) as a,
        database_clone("trixie", "postgresql", binds=binds, hostname="b") as b,
    ):
        sql(a, "CREATE DATABASE app TEMPLATE template0; CREATE ROLE reader")
        sql(a, NEWER, "app")
        dump(a, "/mnt/share/dump", overrides=only("app"))
        found = named(load(b, "/mnt/share/dump", "app", accounts=True), "app")
        assert found.keys() == {"public.written", "public.written_twice", "adminpack"}
        assert "buffers_backend" in found["public.written"]
        assert sql(b, "SELECT count(*) FROM t", "app") == "3\n"


NEWER = """
CREATE VIEW written AS SELECT buffers_backend AS n FROM pg_stat_bgwriter;
CREATE VIEW written_twice AS SELECT n * 2 FROM written; GRANT SELECT ON written TO reader;
CREATE EXTENSION adminpack;
CREATE TABLE t AS SELECT generate_series(1, 3) AS id;
"""
