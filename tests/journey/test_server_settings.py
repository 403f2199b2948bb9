"""The configuration of A's database servers comes to B, and B's servers survive it: judged by the servers themselves.

Takes the lab's machines; touches clones and a folder of its own. One pair of machines has several settings at once.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.lab.appliance import Appliance
from tests.lab.box import Box
from tests.lab.databases import database_clone
from tests.lab.roots import POLICY

pytestmark = pytest.mark.lab

TARGET, KEY = "file:///mnt/share/target", "/mnt/share/key"
FROM_A = ("restore", "--target", TARGET, "--key", KEY, "--skip", "packages", "--yes")
MARIADB = "/etc/mysql/mariadb.conf.d"


class Arrival(NamedTuple):
    """The files of A's delta; B after the restore, and what the restore reported."""

    delta: set[str]
    b: Appliance
    report: dict[str, Any]

    def reason(self, item: str) -> str:
        return "; ".join(skipped["reason"] for skipped in self.report["skipped"] if skipped["item"] == item)


def write(machine: Box, path: str, text: str, owner: str = "root:root") -> None:
    machine.run(["sh", "-c", 'mkdir -p "${1%/*}" && cat >"$1" && chown "$2" "$1"', "sh", path, owner], input=text)


def depart(engine: str, share: Path, prepare: Callable[[Appliance], None]) -> set[str]:
    """Back A up; give the files of its delta."""
    binds = {share: "/mnt/share"}
    with database_clone("bookworm", engine, tklb=True, binds=binds) as a:
        prepare(a)
        a.run(["tklb", "init", "--target", TARGET])
        a.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
        delta = {change["path"] for change in json.loads(a.run(["tklb", "--json", "delta"]).stdout)["files"]}
        a.run(["tklb", "backup"])
        return delta


def arrive(engine: str, share: Path, release: str, delta: set[str]) -> Iterator[Arrival]:
    binds = {share: "/mnt/share"}
    with database_clone(release, engine, tklb=True, hostname="b", binds=binds, start=False) as b:
        (b.root / POLICY).unlink()
        done = b.run(["tklb", "--json", *FROM_A], check=False, timeout=900)
        assert done.returncode == 3, done.stdout + done.stderr
        yield Arrival(delta, b, json.loads(done.stdout))


# ---------------------------------------------------------------- MariaDB


def ask(machine: Box, sql: str) -> str:
    return machine.run(["mariadb", "--batch", "--skip-column-names"], input=sql).stdout.strip()


MOVE = """
install -d -o mysql /srv/bin /var/log/mysql/own && mv /var/lib/mysql /srv/mysql && mkdir /srv/mysql/.snap
mariadb-tzinfo-to-sql /usr/share/zoneinfo 2>/dev/null >/srv/zones.sql
"""
PLACES = """[mysqld]
datadir = /srv/mysql
log_bin = /srv/bin/binlog
log_error = /var/log/mysql/own/error.log
"""


MAINTENANCE = (
    "[client]\nhost = localhost\nuser = debian-sys-maint\npassword = maint\nsocket = /run/mysqld/mysqld.sock\n"
)


def prepare_mariadb(a: Appliance) -> None:
    """Settings that A's server runs with, then those that were written and not yet read: it need not survive them."""
    a.stop("mariadb")
    a.run(["sh", "-ec", MOVE])
    write(a, f"{MARIADB}/55-places.cnf", PLACES)
    a.start("mariadb")
    ask(a, "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY); INSERT INTO shop.t VALUES (1), (2)")
    ask(a, "CREATE TABLE shop.memory (id INT) ENGINE = MEMORY; INSERT INTO shop.memory VALUES (5)")
    a.run(["sh", "-c", "mariadb mysql </srv/zones.sql"])
    ask(a, "GRANT ALL ON *.* TO `debian-sys-maint`@localhost IDENTIFIED BY 'maint'; CREATE USER root@`192.168.1.%`")
    write(a, "/etc/mysql/debian.cnf", MAINTENANCE)
    write(a, f"{MARIADB}/56-zone.cnf", "[mysqld]\ndefault_time_zone = Europe/Berlin\n")
    for name, line in {
        "60-good": "max_connections = 77",
        "61-word": "query_cach_size = 1M",
        "62-page": "innodb_page_size = 32k",
        "64-system": "innodb_data_home_dir = /srv/system",
        "65-library": "plugin_load_add = ha_nowhere\nnowhere_size = 7",
        "63-language": "lc_messages = de_DE.UTF-8",
        **{f"7{number}-more": f"loose_number_{number} = 1" for number in range(8)},
        "79-last": "max_connect_errors = 55",
    }.items():
        write(a, f"{MARIADB}/{name}.cnf", f"[mysqld]\n{line}\n")


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrival]:
    share = tmp_path_factory.mktemp("share")
    yield from arrive("mariadb", share, "bookworm", depart("mariadb", share, prepare_mariadb))


def test_mariadb_runs_with_all_databases_and_the_settings_it_can_run_with(mariadb: Arrival) -> None:
    assert len([path for path in mariadb.delta if path.startswith(MARIADB)]) > 12
    seen = ask(mariadb.b, "SELECT COUNT(*) FROM shop.t; SELECT @@max_connections, @@max_connect_errors")
    assert seen == "2\n77\t55"


def test_rows_in_memory_are_there_after_the_trial_of_the_settings(mariadb: Arrival) -> None:
    assert ask(mariadb.b, "SELECT id FROM shop.memory") == "5"


def test_data_logs_and_time_zones_of_mariadb_are_where_its_settings_say(mariadb: Arrival) -> None:
    variables = "@@datadir, @@log_bin_basename, @@global.time_zone"
    seen = ask(mariadb.b, f"SELECT {variables}; SELECT CONVERT_TZ('2026-07-01 12:00', 'UTC', 'Europe/Berlin')")
    assert seen == "/srv/mysql/\t/srv/bin/binlog\tEurope/Berlin\n2026-07-01 14:00:00"
    assert (mariadb.b.root / "var/log/mysql/own").is_dir()  # which mysqld_safe does not use
    assert not {item["item"] for item in mariadb.report["skipped"] if item["item"].startswith(("/srv", "mysql:"))}


def test_accounts_travel_with_the_files_that_log_in_as_them(mariadb: Arrival) -> None:
    login = ["mariadb", "--defaults-file=/etc/mysql/debian.cnf", "-Ne", "SELECT CURRENT_USER()"]
    assert mariadb.b.run(login).stdout.strip() == "debian-sys-maint@localhost"
    assert ask(mariadb.b, "SELECT Host FROM mysql.user WHERE User = 'root'") == "192.168.1.%\nlocalhost"


def test_files_of_a_mariadb_server_travel_in_no_other_way_than_as_dumps(mariadb: Arrival) -> None:
    assert not [path for path in mariadb.delta if path.startswith(("/srv/mysql", "/srv/bin/"))]
    assert "/srv/zones.sql" in mariadb.delta


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("61-word", "unknown variable 'query_cach_size=1M'"),
        ("62-page", "uses page size 16384"),
        ("64-system", "innodb_data_home_dir is /srv/system, and ibdata1 is in"),
        ("65-library", "ha_nowhere"),
        ("63-language", "de_DE.UTF-8"),
    ],
)
def test_setting_that_mariadb_does_not_survive_is_beside_and_named_in_its_words(
    mariadb: Arrival, name: str, words: str
) -> None:
    path = f"{MARIADB}/{name}.cnf"
    assert words in mariadb.reason(path)
    assert not (mariadb.b.root / path[1:]).exists()
    assert (mariadb.b.root / f"{path[1:]}.tklb-snapshot").exists()


# ---------------------------------------------------------------- PostgreSQL

CLUSTER = "/etc/postgresql/15/main"


def query(machine: Box, sql: str, password: str = "") -> str:
    command = ["runuser", "-u", "postgres", "--", "psql", "-wXAtc", sql]
    return machine.run(command, cwd="/", env={"PGPASSWORD": password} if password else None).stdout.strip()


MOVE_CLUSTER = """
install -d /srv/pg && mv /var/lib/postgresql/15/main /srv/pg/main
install -d -o postgres -g postgres -m 700 /srv/space /srv/wal
mv /srv/pg/main/pg_wal /srv/wal/main && ln -s /srv/wal/main /srv/pg/main/pg_wal
sed -i "s,^data_directory.*,data_directory = '/srv/pg/main'," /etc/postgresql/15/main/postgresql.conf
"""


GOOD = """maintenance_work_mem = 70MB
port = 5477
unix_socket_directories = '/srv/sockets, /var/run/postgresql'
external_pid_file = '/srv/nowhere/main.pid'
logging_collector = on
log_directory = '/srv/log'
include_dir = '../more'
"""
LOGINS = """local all postgres scram-sha-256
local all all scram-sha-256
host all all 10.0.0.0/8 ldap ldapserver=ldap.example.net ldapprefix="uid="
host all all 10.1.0.0/16 pam pamservice=postgresql
hostgssenc all all 10.2.0.0/16 gss include_realm=0 map=people
"""
LOCALES = (
    "CREATE DATABASE german LOCALE 'de_DE.UTF-8' TEMPLATE template0",
    "CREATE DATABASE turkish LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C.UTF-8' TEMPLATE template0",
    "ALTER DATABASE german SET lc_time = 'de_DE.UTF-8'",
)
COLLATIONS = """
SELECT pg_import_system_collations('pg_catalog');
CREATE TABLE swedish (name text COLLATE "sv_SE.utf8");
INSERT INTO swedish VALUES ('z'), (U&'\\00e5'), ('a');
CREATE INDEX ON swedish (name);
CREATE COLLATION french (LOCALE = 'fr_FR.utf8');
CREATE TABLE french (name text COLLATE french);
"""


def prepare_postgresql(a: Appliance) -> None:
    a.stop("postgresql")
    a.run(["sh", "-ec", MOVE_CLUSTER])
    for locale in ("de_DE", "sv_SE", "fr_FR"):  # into the archive, which does not travel
        a.run(["localedef", "-i", locale, "-c", "-f", "UTF-8", f"{locale}.UTF-8"])
    a.start("postgresql")
    for statement in LOCALES:
        query(a, statement)
    a.run(["runuser", "-u", "postgres", "--", "psql", "-Xqd", "german"], cwd="/", input=COLLATIONS)
    query(a, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
    query(a, "CREATE TABLESPACE space LOCATION '/srv/space'")
    query(a, "CREATE TABLE spaced TABLESPACE space AS SELECT generate_series(1, 5) n")
    query(a, "ALTER ROLE postgres PASSWORD 'secret'; CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'boss'")
    for setting in ("work_mem = '9MB'", "max_connections = 51", "ssl_cert_file = '/nowhere.pem'"):
        query(a, f"ALTER SYSTEM SET {setting}")
    for name, line in {
        "10-good": GOOD,
        "15-language": "lc_monetary = 'de_DE.UTF-8'",
        "20-language": "lc_messages = 'xx_XX.UTF-8'",
        "30-library": "shared_preload_libraries = 'pg_nowhere'",
        "31-session": "session_preload_libraries = 'auto_explain,pg_gone'",
        "40-word": "serch_path = 'x'",
        "50-memory": "shared_buffers = 4000GB",
        "51-pages": "huge_pages = on",
        **{f"6{number}-more": f"lab.number_{number} = 1" for number in range(4)},
    }.items():
        write(a, f"{CLUSTER}/conf.d/{name}.conf", f"{line}\n", "postgres:postgres")
    write(a, f"{CLUSTER}/more/more.conf", "work_mem = 3MB\nmax_worker_processes = 9\n", "postgres:postgres")
    write(a, f"{CLUSTER}/pg_hba.conf", LOGINS, "postgres:postgres")
    write(a, f"{CLUSTER}/pg_ident.conf", "people admin postgres\n", "postgres:postgres")


class Departure(NamedTuple):
    share: Path
    delta: set[str]


@pytest.fixture(scope="module")
def departure(tmp_path_factory: pytest.TempPathFactory) -> Departure:
    share = tmp_path_factory.mktemp("share")
    return Departure(share, depart("postgresql", share, prepare_postgresql))


@pytest.fixture(scope="module")
def postgresql(departure: Departure) -> Iterator[Arrival]:
    yield from arrive("postgresql", departure.share, "bookworm", departure.delta)


@pytest.fixture(scope="module")
def newer(departure: Departure) -> Iterator[Arrival]:
    yield from arrive("postgresql", departure.share, "trixie", departure.delta)


def test_postgresql_runs_with_all_databases_and_the_settings_it_can_run_with(postgresql: Arrival) -> None:
    shown = "SELECT COUNT(*) FROM t; SHOW maintenance_work_mem; SHOW data_directory; SHOW max_worker_processes"
    assert postgresql.reason(f"{CLUSTER}/postgresql.conf") == ""
    assert query(postgresql.b, shown, "secret") == "2\n70MB\n/srv/pg/main\n9"


def test_passwords_of_administrators_travel_so_that_they_can_log_in_by_the_logins_of_the_snapshot(
    postgresql: Arrival,
) -> None:
    assert postgresql.reason(f"{CLUSTER}/pg_hba.conf") == ""
    rules = "SELECT auth_method FROM pg_hba_file_rules WHERE error IS NULL ORDER BY line_number"
    assert query(postgresql.b, rules, "secret").split() == ["scram-sha-256", "scram-sha-256", "ldap", "pam", "gss"]
    boss = ["psql", "-wXAtc", "SELECT rolsuper FROM pg_roles WHERE rolname = current_user", "-U", "boss", "postgres"]
    assert postgresql.b.run(boss, env={"PGPASSWORD": "boss"}).stdout == "t\n"
    with pytest.raises(AssertionError, match="no password supplied"):
        query(postgresql.b, "SELECT 1")


def test_rows_of_a_tablespace_come_and_folders_that_settings_name_are_made(postgresql: Arrival) -> None:
    space = "SELECT spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = reltablespace WHERE relname = 'spaced'"
    assert query(postgresql.b, f"SELECT count(*), max(n) FROM spaced; {space}", "secret") == "5|5\nspace"
    assert (postgresql.b.root / "srv/sockets/.s.PGSQL.5477").exists()
    assert list((postgresql.b.root / "srv/log").glob("postgresql-*.log"))


def test_settings_of_alter_system_travel_one_by_one(postgresql: Arrival) -> None:
    shown = "SHOW work_mem; SHOW max_connections; SELECT COUNT(*) FROM pg_settings WHERE pending_restart"
    assert query(postgresql.b, shown, "secret") == "9MB\n51\n0"
    assert "/nowhere.pem" in postgresql.reason("pgsql:ALTER SYSTEM SET ssl_cert_file")


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_databases_come_with_their_locales_which_the_machine_makes(release: str, request: Any) -> None:
    arrival: Arrival = request.getfixturevalue("postgresql" if release == "bookworm" else "newer")
    password = "secret" if release == "bookworm" else ""
    assert {"de_DE.utf8", "sv_SE.utf8", "fr_FR.utf8"} <= set(arrival.b.run(["locale", "-a"]).stdout.split())
    names = "SELECT datname, datcollate, datlocprovider FROM pg_database WHERE datname IN ('german', 'turkish')"
    assert query(arrival.b, f"{names} ORDER BY 1", password) == "german|de_DE.UTF-8|c\nturkish|C.UTF-8|i"
    german = ["runuser", "-u", "postgres", "--", "psql", "-wXAtd", "german"]
    order = "SELECT string_agg(ascii(name)::text, ',' ORDER BY name) FROM swedish"
    shown = f"SHOW lc_time; {order}; SELECT count(*) FROM french"
    seen = arrival.b.run(german, cwd="/", input=shown, env={"PGPASSWORD": password}).stdout.split()
    assert seen == ["de_DE.UTF-8", "97,122,229", "0"]
    assert query(arrival.b, "SHOW lc_monetary", password) == "de_DE.UTF-8"
    named = {item["item"].partition("/")[0] for item in arrival.report["skipped"]}
    assert not named & {"pgsql:german", "pgsql:turkish"}
    assert any("made the locale de_DE.UTF-8" in line for line in arrival.report["warnings"])


def test_data_of_a_cluster_travel_in_no_other_way_than_as_dumps(postgresql: Arrival) -> None:
    data = [path for path in postgresql.delta if path.startswith(("/srv/pg/main/", "/srv/space/", "/srv/wal/main"))]
    assert data == []
    assert f"{CLUSTER}/more/more.conf" in postgresql.delta


def test_settings_of_another_release_are_carried_over_or_named(newer: Arrival) -> None:
    assert query(newer.b, "SELECT COUNT(*) FROM t; SHOW maintenance_work_mem; SHOW work_mem") == "2\n70MB\n9MB"
    assert newer.b.run(["pg_lsclusters", "--no-header"]).stdout.split()[:2] == ["17", "main"]
    reasons = "; ".join(skipped["reason"] for skipped in newer.report["skipped"])
    (carried,) = re.findall("tklb-from-15-main.conf has ([^;]*)", reasons)
    assert {"maintenance_work_mem", "port", "logging_collector"} <= set(carried.split(", "))
    assert "shared_buffers is not carried over: its shared memory" in reasons
    assert "no server of its release is here" in newer.reason(f"{CLUSTER}/pg_hba.conf")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("conf.d/20-language.conf", "lc_messages"),
        ("conf.d/30-library.conf", "pg_nowhere"),
        ("conf.d/31-session.conf", "nobody could log in: session_preload_libraries has the library pg_gone"),
        ("conf.d/40-word.conf", 'unrecognized configuration parameter "serch_path"'),
        ("conf.d/50-memory.conf", "its shared memory (shared_buffers) takes"),
        ("conf.d/51-pages.conf", "could not map anonymous shared memory"),
    ],
)
def test_setting_that_postgresql_does_not_survive_is_beside_and_named_in_its_words(
    postgresql: Arrival, name: str, words: str
) -> None:
    path = f"{CLUSTER}/{name}"
    assert words in postgresql.reason(path)
    assert (postgresql.b.root / f"{path[1:]}.tklb-snapshot").exists()


def test_reason_of_a_server_that_is_down_is_a_line_of_its_own_log(newer: Arrival) -> None:
    newer.b.stop("postgresql")
    write(newer.b, "/etc/postgresql/17/main/conf.d/own.conf", "serch_path = 'x'\n", "postgres:postgres")
    command = ["tklb", "--json", *FROM_A, "--limit", "pgsql:postgres"]
    done = newer.b.run(command, check=False, timeout=900)
    assert done.returncode == 50
    assert 'unrecognized configuration parameter "serch_path"' in done.stdout.replace("\\", "")
