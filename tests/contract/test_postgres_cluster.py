"""What a cluster of PostgreSQL has beside its databases: settings of roles, judged by the logins of those roles.

And how it is named where it is down, or has no session left.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.test_database_postgres import dump, load, only
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE, call
from tests.lab.postgresql import BARE_PSQL, sql

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    with database_clone("bookworm", "postgresql", binds=TREE_INSIDE) as machine:
        yield machine


SETTINGS = {
    "preloads": "session_preload_libraries = 'auto_explain', 'gone_library'",
    "plugs": "local_preload_libraries = 'gone_plugin'",
    "spaced": "default_tablespace = 'gone_space'",
    "temporary": "temp_tablespaces = 'pg_default', 'gone_space'",
    "acts": "role = 'gone_role'",
    "searches": "default_text_search_config = 'public.gone_words'",
    "dutch": "lc_time = 'nl_NL.UTF-8'",
    "speaks": "lc_messages = 'nl_NL.UTF-8'",
    "looks": "search_path = 'odd, one', \"$user\", public",
    "explains": "session_preload_libraries = 'auto_explain'",
}
NAMED = {
    "preloads": "this server has no library gone_library",
    "plugs": "this server has no library gone_plugin",
    "spaced": 'Tablespace "gone_space" does not exist',
    "temporary": 'tablespace "gone_space" does not exist',
    "acts": 'role "gone_role" does not exist',
    "searches": "gone_words",
}
LOCALE = "/usr/lib/locale/nl_NL.utf8"


@pytest.fixture(scope="module")
def loaded(box: Appliance) -> dict[str, str]:
    """The roles and a database come back to a server that lacks what their settings name; give what is named."""
    box.run(["localedef", "--no-archive", "-i", "nl_NL", "-c", "-f", "UTF-8", "nl_NL.UTF-8"])
    sql(box, "CREATE ROLE gone_role; CREATE DATABASE app TEMPLATE template0")
    for role, setting in SETTINGS.items():
        sql(box, f"CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET {setting}")
    sql(box, "ALTER ROLE looks IN DATABASE app SET session_preload_libraries = 'gone_too'")
    sql(box, "ALTER DATABASE app SET local_preload_libraries = '$libdir/plugins/gone_here'")
    sql(box, "DROP ROLE gone_role")
    dump(box, "/root/roles", overrides=only("app"))
    sql(box, "DROP DATABASE app")
    sql(box, "".join(f"DROP ROLE {role};" for role in SETTINGS))
    box.run(["rm", "-r", LOCALE])
    answer = load(box, "/root/roles", "app", accounts=True)
    assert answer["failed"] is None
    assert any("made the locale nl_NL.UTF-8" in note for note in answer["notes"])
    return dict(answer["skipped"])


def log_in(box: Appliance, role: str, query: str, database: str = "postgres") -> str:
    box.run(["sed", "-i", f"1i local all {role} trust", "/etc/postgresql/15/main/pg_hba.conf"])
    sql(box, "SELECT pg_reload_conf(), pg_sleep(0.2)")
    return box.run([*BARE_PSQL, "-XAt", "-U", role, "-d", database, "-c", query]).stdout.strip()


@pytest.mark.parametrize("role", SETTINGS)
def test_role_can_log_in_whatever_its_settings_name(box: Appliance, loaded: dict[str, str], role: str) -> None:
    name, _, value = SETTINGS[role].partition(" = ")
    shown = log_in(box, role, f"SHOW {name}")
    assert (shown.replace('"', "'") == value.replace('"', "'")) or role in NAMED or shown == value.strip("'")
    reason = loaded.get(f"pgsql:role {role}", "")
    assert NAMED.get(role, "") in reason
    assert bool(reason) is (role in NAMED)


def test_settings_of_a_database_that_would_refuse_every_login_are_named(box: Appliance, loaded: dict[str, str]) -> None:
    assert log_in(box, "looks", "SELECT 1", "app") == "1"
    assert "gone_" in loaded["pgsql:app"]


LISTED = """
from tklb.config.schema import DatabaseConfig
from tklb.databases.servers import list_servers
answer = [[each.word, each.lack, each.is_off] for each in list_servers(DatabaseConfig()) if each.word == "pgsql"]
"""


@pytest.mark.parametrize(("start", "is_off"), [("auto", False), ("manual", True), ("disabled", True)])
def test_only_cluster_of_a_machine_may_be_down_where_start_conf_says_so(
    box: Appliance, start: str, is_off: bool
) -> None:
    assert call(box, LISTED) == [["pgsql", "", False]]
    box.stop("postgresql")
    box.run(["sh", "-c", f"echo {start} >/etc/postgresql/15/main/start.conf"])  # which the service heeds, too
    ((_, lack, found),) = call(box, LISTED)
    assert found is is_off
    assert (f"{start} in start.conf" in lack) is is_off
    box.run(["sh", "-c", "echo auto >/etc/postgresql/15/main/start.conf"])
    box.start("postgresql")


SPACES = """
CREATE ROLE keeper;
CREATE TABLESPACE fast OWNER keeper LOCATION '/srv/fast/pg' WITH (random_page_cost = 1.25);
CREATE TABLESPACE slow LOCATION '/srv/slow'; COMMENT ON TABLESPACE slow IS 'of old disks';
GRANT CREATE ON TABLESPACE slow TO keeper;
CREATE TABLESPACE home LOCATION '/home/user/pg';
CREATE TABLESPACE taken LOCATION '/srv/taken';
CREATE DATABASE spaced TEMPLATE template0 TABLESPACE slow;
"""
IN_SPACES = """
CREATE TABLE here (a int); INSERT INTO here VALUES (1);
CREATE TABLE there (a int, b text) TABLESPACE fast;
INSERT INTO there SELECT n, repeat('x', 9999) FROM generate_series(1, 50) n;
CREATE UNIQUE INDEX on_fast ON here (a) TABLESPACE fast;
ALTER TABLE there ADD CONSTRAINT odd_key PRIMARY KEY (a) USING INDEX TABLESPACE fast;
CREATE MATERIALIZED VIEW shown TABLESPACE fast AS SELECT a FROM there;
CREATE TABLE parts (a int) PARTITION BY LIST (a) TABLESPACE fast; CREATE TABLE part PARTITION OF parts DEFAULT;
INSERT INTO parts VALUES (1), (2);
CREATE TABLE lost (a int) TABLESPACE home; INSERT INTO lost VALUES (7);
CREATE TABLE gone (a int) TABLESPACE taken; INSERT INTO gone VALUES (8);
"""
WHERE = """
SELECT string_agg(relname || ' ' || spcname, ',' ORDER BY relname) FROM pg_class c
JOIN pg_tablespace t ON t.oid = reltablespace WHERE t.oid >= 16384 AND relnamespace = 'public'::regnamespace;
SELECT t.spcname FROM pg_database JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = current_database();
"""
ABOUT = """
SELECT spcname, pg_get_userbyid(spcowner), spcoptions, pg_tablespace_location(oid),
  shobj_description(oid, 'pg_tablespace'), spcacl FROM pg_tablespace WHERE spcname IN ('fast', 'slow') ORDER BY 1
"""


def test_tablespaces_are_made_where_their_folders_can_be_and_hold_what_they_held(box: Appliance) -> None:
    for folder in ("/srv/fast/pg", "/srv/slow", "/home/user/pg", "/srv/taken"):
        box.run(["install", "-d", "-o", "postgres", folder])
    for statement in filter(str.strip, SPACES.split(";")):
        sql(box, statement)
    sql(box, IN_SPACES, "spaced")
    about, where = sql(box, ABOUT), sql(box, WHERE, "spaced")
    dump(box, "/root/spaces", overrides=only("spaced"))
    sql(box, "DROP DATABASE spaced")
    for name in ("fast", "slow", "home", "taken"):
        sql(box, f"DROP TABLESPACE {name}")
    sql(box, "DROP ROLE keeper")
    box.run(["sh", "-ec", "rm -r /srv/fast /srv/slow /home/user/pg; chown nobody /home/user; chown nobody /srv/taken"])
    answer = load(box, "/root/spaces", "spaced", accounts=True)
    assert answer["failed"] is None
    reasons = dict(answer["skipped"])
    assert "cannot be made safely" in reasons["pgsql:tablespace home"]
    assert "does not belong to postgres" in reasons["pgsql:tablespace taken"]
    spaces = {item for item in reasons if not item.startswith("pgsql:role ")}  # other tests have roles here
    assert spaces == {"pgsql:tablespace home", "pgsql:tablespace taken"}
    assert any("tablespaces home, taken is in the default one" in note for note in answer["notes"])
    assert sql(box, ABOUT) == about
    assert sql(box, WHERE, "spaced") == where.replace("gone taken,", "").replace("lost home,", "")
    counts = "SELECT (SELECT count(*) FROM there), (SELECT sum(a) FROM shown), (SELECT sum(a) FROM parts), a FROM lost"
    assert sql(box, counts, "spaced") == "50|1275|3|7\n"
    check = ["runuser", "-u", "postgres", "--", "/usr/lib/postgresql/15/bin/pg_amcheck", "--install-missing"]
    assert box.run([*check, "--heapallindexed", "spaced"], cwd="/").stdout == ""
    assert box.run(["stat", "-c", "%U %a", "/srv/fast/pg"]).stdout == "postgres 700\n"


def test_single_database_says_that_its_tablespaces_are_not_here(box: Appliance) -> None:
    """Nothing makes a tablespace for a part of a snapshot."""
    sql(box, "DROP DATABASE spaced WITH (FORCE)")
    sql(box, "DROP TABLESPACE fast")
    sql(box, "DROP TABLESPACE slow")
    answer = load(box, "/root/spaces", "spaced")
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert any("it is in the default tablespace: slow is not here" in note for note in answer["notes"])
    assert any("tablespaces fast, home, taken is in the default one" in note for note in answer["notes"])
    assert sql(box, "SELECT count(*) FROM there", "spaced") == "50\n"
