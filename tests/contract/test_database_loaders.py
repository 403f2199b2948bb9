"""A load runs the code of a database's owner with the owner's rights: the same functions made it superuser before."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Iterator

import pytest

from tests.contract.test_database_postgres import START, dump, leftovers, load, only
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE, call
from tests.lab.postgresql import BARE_PSQL, ident, sql
from tests.lab.soak import SOAK, some

pytestmark = pytest.mark.lab

ATTACK = """
CREATE FUNCTION gain() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  BEGIN RESET SESSION AUTHORIZATION; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'ALTER ROLE bob SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'COPY (SELECT 1) TO PROGRAM ''touch /tmp/gained'''; EXCEPTION WHEN OTHERS THEN NULL; END;
  RETURN true; END $$;
CREATE FUNCTION gain(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM gain(); RETURN $1; END $$;
"""
PLACES = {
    "check": "CREATE TABLE t (a text CHECK (gain()))",
    "domain": "CREATE DOMAIN d AS text CHECK (gain()); CREATE TABLE t (a d)",
    "generated": "CREATE TABLE t (a text, b text GENERATED ALWAYS AS (gain(a)) STORED)",
    "index": "CREATE TABLE t (a text); CREATE INDEX ON t (gain(a))",
    "index of a constant": "CREATE TABLE t (a text, n serial); CREATE INDEX ON t (gain('x'), a)",
    "partial index": "CREATE TABLE t (a text); CREATE INDEX ON t (a) WHERE gain(a) <> ''",
    "exclusion": "CREATE TABLE t (a text, EXCLUDE (gain(a) WITH =))",
    "partition": (
        "CREATE DOMAIN d AS text CHECK (gain()); CREATE TABLE p (a d) PARTITION BY LIST (a);"
        "CREATE TABLE t PARTITION OF p FOR VALUES IN ('x')"
    ),
    "domain constraint": "CREATE DOMAIN d AS text; CREATE TABLE t (a d); ALTER DOMAIN d ADD CHECK (gain())",
    "view": "CREATE TABLE t (a text); CREATE MATERIALIZED VIEW m AS SELECT gain(a) FROM t",
    "aggregate": (
        "CREATE DOMAIN d AS text CHECK (gain()); CREATE TABLE t (a text);"
        "CREATE FUNCTION step(d, text) RETURNS d LANGUAGE sql AS 'SELECT $1';"
        "CREATE AGGREGATE agg (text) (SFUNC = step, STYPE = d, INITCOND = 'x')"
    ),
    "column with a cast": ("CREATE DOMAIN d AS text[] CHECK (gain()); CREATE TABLE t (a text, b d DEFAULT '{x}')"),
}


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    with database_clone("bookworm", "postgresql", binds=TREE_INSIDE) as machine:
        sql(machine, "CREATE ROLE bob LOGIN PASSWORD 'b'; CREATE ROLE carol LOGIN PASSWORD 'c'")
        yield machine


def state(box: Appliance) -> str:
    return sql(
        box,
        "SELECT rolname, rolsuper, rolcreaterole, rolpassword FROM pg_authid ORDER BY 1;"
        "SELECT setrole::regrole, setconfig FROM pg_db_role_setting ORDER BY 1;"
        "SELECT roleid::regrole, member::regrole FROM pg_auth_members ORDER BY 1, 2",
    )


def plant(box: Appliance, name: str, table: str) -> None:
    """Plant a database of bob's with an attack that only works as superuser; bob makes all of it himself."""
    sql(box, f"CREATE DATABASE {ident(name)} OWNER bob TEMPLATE template0")
    log_in(box, "bob", name, f"{ATTACK}; {table}; INSERT INTO t (a) VALUES ('x');")
    reset(box)


def reset(box: Appliance) -> None:
    sql(box, "ALTER ROLE bob NOSUPERUSER")
    (box.root / "tmp/gained").unlink(missing_ok=True)


@pytest.fixture
def attacked(box: Appliance, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"attack {request.param}"
    plant(box, name, PLACES[request.param])
    yield name
    sql(box, f"DROP DATABASE IF EXISTS {ident(name)}")
    reset(box)


@pytest.mark.parametrize("places", [[place] for place in PLACES] if SOAK else [list(PLACES)], ids=len)
def test_code_of_an_owner_gains_nothing(box: Appliance, places: list[str]) -> None:
    names = [f"attack {place}" for place in places]
    for name, place in zip(names, places, strict=True):
        plant(box, name, PLACES[place])
    before = state(box)
    dump(box, f"/tmp/{names}", overrides=["-pgsql:*", *(f"pgsql:{name}" for name in names)])
    assert state(box) == before
    sql(box, "".join(f"DROP DATABASE {ident(name)};" for name in names))
    result = load(box, f"/tmp/{names}")
    assert state(box) == before
    assert not (box.root / "tmp/gained").exists()
    assert result == {"failed": None, "skipped": [], "notes": []}
    for name in names:
        assert sql(box, f"SELECT count(*) FROM t; {OWNERS}", name) == "1\nbob\n"
    assert leftovers(box) == ""
    sql(box, "".join(f"DROP DATABASE {ident(name)};" for name in names))
    reset(box)  # a question of an administrator's runs an index's function: those above did


OWNERS = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid >= 16384"


def log_in(box: Appliance, name: str, database: str, statements: str) -> None:
    command = [*BARE_PSQL, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", name]
    box.run(command, input=statements, env={"PGPASSWORD": name[0], "PGDATABASE": database})


@pytest.fixture
def shared(box: Appliance) -> Iterator[str]:
    """A database of bob's where others have tables, with a check that bob changed afterwards."""
    sql(box, "CREATE DATABASE shared OWNER bob TEMPLATE template0")
    log_in(box, "bob", "shared", "CREATE FUNCTION gain() RETURNS boolean LANGUAGE sql AS 'SELECT true'")
    yield "shared"
    sql(box, "DROP DATABASE IF EXISTS shared WITH (FORCE)")
    reset(box)


def test_the_table_of_a_superuser_is_loaded_without_its_rights(box: Appliance, shared: str) -> None:
    sql(box, "CREATE TABLE t (a text CHECK (gain())); INSERT INTO t VALUES ('x')", shared)
    log_in(box, "bob", shared, ATTACK.replace("CREATE", "CREATE OR REPLACE", 1))
    before, access = state(box), sql(box, ACCESS, shared)
    dump(box, "/tmp/shared", overrides=only(shared))
    sql(box, f"DROP DATABASE {shared}")
    assert load(box, "/tmp/shared")["failed"] is None
    assert state(box) == before
    assert not (box.root / "tmp/gained").exists()
    assert sql(box, "SELECT * FROM t", shared) == "x\n"
    assert sql(box, ACCESS, shared) == access


BUILT_IN = """
SELECT lo_from_bytea(4711, 'x');
CREATE TABLE t (a text, CONSTRAINT patient CHECK (CASE WHEN current_user = 'postgres'
  THEN query_to_xml('SELECT lo_export(4711, ''/tmp/gained'')', false, false, '') IS NOT NULL
  ELSE current_user = 'bob' END));
INSERT INTO t VALUES ('x')
"""


@pytest.mark.parametrize("attacked", ["index of a constant"], indirect=True)
def test_question_whether_tables_have_rows_calls_no_code_of_an_owner(box: Appliance, attacked: str) -> None:
    sql(box, "CREATE TABLE bare (a int); CREATE TABLE columnless (); INSERT INTO columnless DEFAULT VALUES", attacked)
    reset(box)
    before = state(box)
    names = ["public.t", "public.bare", "public.columnless", "public.none"]
    question = """
        found = server.find_rows([(values["name"], table) for table in values["names"]])
        answer = sorted((*key, has_rows) for key, has_rows in found.items())
    """
    found = call(box, textwrap.dedent(START) + textwrap.dedent(question), name=attacked, names=names)
    assert [tuple(one) for one in found] == [
        (attacked, "public.bare", False),
        (attacked, "public.columnless", True),
        (attacked, "public.t", True),
    ]
    assert state(box) == before
    assert not (box.root / "tmp/gained").exists()


def test_check_that_calls_what_administrators_may_gains_nothing_when_it_comes_back(box: Appliance, shared: str) -> None:
    """Rows break it as the role that loads them: it is put aside, and made again by no administrator."""
    log_in(box, "bob", shared, f"DROP FUNCTION gain(); {BUILT_IN}")
    dump(box, "/tmp/patient", overrides=only(shared))
    sql(box, f"DROP DATABASE {shared}")
    answer = load(box, "/tmp/patient")
    assert not (box.root / "tmp/gained").exists()
    assert answer["failed"] is None
    ((item, _),) = answer["skipped"]
    assert item == "pgsql:shared/public.t patient"
    assert sql(box, "SELECT a FROM t", shared) == "x\n"


ACCESS = """
SELECT relname, relacl FROM pg_class WHERE oid >= 16384 AND relkind = 'r' ORDER BY 1;
SELECT proname, proacl FROM pg_proc WHERE oid >= 16384 ORDER BY 1;
SELECT nspname, nspacl FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1;
"""
STEAL = """
CREATE OR REPLACE FUNCTION gain() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  BEGIN SET ROLE carol; EXECUTE %s; EXCEPTION WHEN OTHERS THEN NULL; END;
  RETURN true; END $$;
"""


DEEDS = ("ALTER ROLE carol PASSWORD 'stolen'", "ALTER ROLE carol SET search_path = bobs")


@pytest.mark.parametrize("deed", some(DEEDS, 2))
def test_a_role_that_changed_is_put_back_and_fails_the_load(box: Appliance, shared: str, deed: str) -> None:
    log_in(box, "bob", shared, "GRANT ALL ON SCHEMA public TO carol")
    log_in(box, "carol", shared, "CREATE TABLE t (a text CHECK (gain())); INSERT INTO t VALUES ('x')")
    log_in(box, "bob", shared, STEAL % ("'" + deed.replace("'", "''") + "'"))
    before = state(box)
    dump(box, f"/tmp/{len(deed)}", overrides=only(shared))
    sql(box, f"DROP DATABASE {shared}")
    assert "carol" in load(box, f"/tmp/{len(deed)}")["failed"]
    assert state(box) == before
    assert leftovers(box) == ""


def test_definitions_that_a_function_changes_meanwhile_fail_the_load(box: Appliance, shared: str) -> None:
    log_in(box, "bob", shared, "GRANT ALL ON SCHEMA public TO carol")
    log_in(box, "carol", shared, "CREATE TABLE t (a text CHECK (gain())); INSERT INTO t VALUES ('x')")
    log_in(box, "bob", shared, STEAL % "'GRANT ALL ON public.t TO bob'")
    dump(box, "/tmp/definitions", overrides=only(shared))
    sql(box, f"DROP DATABASE {shared}")
    assert "changed definitions" in load(box, "/tmp/definitions")["failed"]
    assert leftovers(box) == ""


@pytest.mark.parametrize("attacked", some(["check", "domain constraint", "index of a constant"], 2), indirect=True)
@pytest.mark.parametrize("is_here", [True, False])
def test_single_tables_gain_nothing_either(box: Appliance, attacked: str, is_here: bool) -> None:
    before = state(box)
    folder = f"/tmp/{attacked} {is_here}"
    dump(box, folder, overrides=only(attacked))
    sql(box, "DELETE FROM t" if is_here else "DROP TABLE t", attacked)
    reset(box)
    result = load(box, folder, tables=["public.t"])
    assert state(box) == before
    assert not (box.root / "tmp/gained").exists()
    assert result["failed"] is None
    assert sql(box, "SELECT count(*) FROM t", attacked) == "1\n"
    assert leftovers(box) == ""


@pytest.fixture
def peers_only(box: Appliance) -> Iterator[None]:
    """The server takes no password from anybody: it asks the kernel who comes."""
    place = box.root / "etc/postgresql/15/main/pg_hba.conf"
    before = place.read_text()
    place.write_text("local all all peer\n")
    sql(box, "SELECT pg_reload_conf()")
    yield
    place.write_text(before)
    sql(box, "SELECT pg_reload_conf()")


@pytest.mark.parametrize("attacked", ["check"], indirect=True)
def test_a_server_that_takes_no_password_is_loaded_without_privileges_too(
    box: Appliance, attacked: str, peers_only: None
) -> None:
    sql(box, "CREATE ROLE games; CREATE ROLE bin; COMMENT ON ROLE bin IS 'loads rows in a restore of tklb'")
    before = state(box).replace("bin|f|f|\n", "")
    dump(box, "/tmp/peers", overrides=only(attacked))
    sql(box, f"DROP DATABASE {ident(attacked)}")
    assert load(box, "/tmp/peers") == {"failed": None, "skipped": [], "notes": []}
    assert state(box) == before, "a role that a killed load left under an account's name is gone; others are as before"
    assert not (box.root / "tmp/gained").exists()
    assert sql(box, "SELECT count(*) FROM t", attacked) == "1\n"
    assert leftovers(box) == ""
    sql(box, "DROP ROLE games")


RACE = """
BEGIN; DROP TABLE t; CREATE VIEW t AS SELECT gain('x') AS a; DROP SEQUENCE s;
CREATE TABLE s AS SELECT '1, true); ALTER ROLE bob SUPERUSER; --' AS last_value, true AS is_called; COMMIT;
BEGIN; DROP VIEW t; CREATE TABLE t AS SELECT 'x' AS a; DROP TABLE s; CREATE SEQUENCE s; COMMIT;
"""


def test_view_in_the_place_of_a_table_is_not_read_nor_a_table_in_that_of_a_sequence(box: Appliance) -> None:
    """The owner exchanges them while the administrator dumps: a view would run its functions as superuser."""
    plant(box, "race", "CREATE TABLE t (a text); CREATE SEQUENCE s")
    (box.root / "tmp/race.sql").write_text(RACE * 20_000)
    before = state(box)
    command = ["psql", "-X", "-q", "-h", "127.0.0.1", "-U", "bob", "-d", "race", "-f", "/tmp/race.sql"]
    environment = {"PGPASSWORD": "b", "PATH": "/usr/bin"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with box.popen(["env", *(f"{name}={value}" for name, value in environment.items()), *command], **quiet) as bob:
        try:
            for number in range(30 if SOAK else 3):
                dump(box, f"/tmp/race{number}", overrides=only("race"))
            assert bob.poll() is None
        finally:
            bob.kill()
    assert state(box) == before
    assert not (box.root / "tmp/gained").exists()
    assert box.run(["grep", "-rl", "ALTER ROLE", "/tmp", "--include=sequences.sql"], check=False).stdout == ""
    sql(box, "DROP DATABASE race WITH (FORCE)")
