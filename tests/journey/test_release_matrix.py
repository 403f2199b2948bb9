"""Databases between the releases, up and down: loaded, or named with the real reason, and nothing here is touched.

PostgreSQL 17 and MariaDB 11.8 are trixie's, 15 and 10.11 are bookworm's. Judged by the servers' own clients and checks.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.journey.test_databases import allow_services, told
from tests.lab import mariadb, mariadb_checker, postgresql_checker
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.postgresql import fill, sql
from tests.lab.soak import SOAK

pytestmark = pytest.mark.lab

TARGET, KEY = "file:///mnt/share/target", "/mnt/share/key"
FROM_A = ("restore", "--target", TARGET, "--key", KEY, "--skip", "packages", "--yes")


class Trip(NamedTuple):
    backup: dict[str, Any]
    b: Appliance
    report: dict[str, Any]

    def reasons(self, item: str) -> str:
        named = [skipped for skipped in self.report["skipped"] if skipped["item"].startswith(item)]
        return "; ".join(skipped["reason"] for skipped in named)


def leave(a: Appliance) -> dict[str, Any]:
    a.run(["tklb", "init", "--target", TARGET])
    a.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
    return told(a, "backup")


# ---------------------------------------------------------------- PostgreSQL 17 -> 15

JSON = """
CREATE TABLE t (a text); INSERT INTO t VALUES ('{}');
CREATE VIEW v AS SELECT json_exists(a::jsonb, '$.x') FROM t; CREATE VIEW w AS SELECT 1 AS one;
"""
IDENTITY = """
CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, a int) PARTITION BY RANGE (a);
CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (9); INSERT INTO t (a) VALUES (1), (2);
"""
# what PostgreSQL 15 does not know, a database for each; `rows` is what it can have all the same
NEWER = {
    "plain": ("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'x'), (2, 'y')", "2"),
    "provided": ("CREATE TABLE t AS SELECT 1 AS a", "1"),  # of the builtin locale provider
    "ruled": ("CREATE TABLE t AS SELECT 1 AS a", "1"),  # of ICU with rules
    "json": (JSON, "1"),
    "identity": (IDENTITY, "2"),
    "nulls": ("CREATE TABLE t (a int); CREATE UNIQUE INDEX ON t (a) NULLS NOT DISTINCT; INSERT INTO t VALUES (1)", "1"),
    "stored": ("CREATE TABLE t (a text STORAGE extended COMPRESSION default); INSERT INTO t VALUES ('x')", "1"),
}
MAKE = {
    "provided": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C.UTF-8'",
    "ruled": "LOCALE_PROVIDER icu ICU_LOCALE 'de' ICU_RULES '&a < g' LOCALE 'C.UTF-8'",
}


@pytest.fixture(scope="module")
def down(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trip]:
    binds = {tmp_path_factory.mktemp("share"): "/mnt/share"}
    with database_clone("trixie", "postgresql", tklb=True, binds=binds) as a:
        for name, (content, _) in NEWER.items():
            sql(a, f"CREATE DATABASE {name} TEMPLATE template0 {MAKE.get(name, '')}")
            sql(a, content, name)
        sql(a, "CREATE ROLE boss; CREATE ROLE worker; GRANT boss TO worker WITH INHERIT FALSE, SET TRUE")
        sql(a, "GRANT pg_maintain TO worker; GRANT MAINTAIN ON t TO worker", "plain")
        backup = leave(a)
    with database_clone("bookworm", "postgresql", tklb=True, hostname="b", binds=binds) as b:
        allow_services(b)
        sql(b, "CREATE DATABASE json TEMPLATE template0")
        sql(b, "CREATE TABLE mine AS SELECT 5 AS a", "json")
        yield Trip(backup, b, told(b, *FROM_A, statuses=(0, 3, 50)))


@pytest.mark.parametrize("name", NEWER)
def test_database_of_a_newer_postgresql_comes_or_is_named_and_untouched(down: Trip, name: str) -> None:
    assert any("newer than PostgreSQL 15" in line for line in down.report["warnings"])
    item = f"pgsql:{name}"
    failed = [skipped for skipped in down.report["skipped"] if skipped["item"] == item and skipped.get("status") == 50]
    if failed:
        assert failed[0]["reason"]
        there = sql(down.b, f"SELECT count(*) FROM pg_database WHERE datname = '{name}'").strip()
        assert there == ("1" if name == "json" else "0")
        assert name != "json" or sql(down.b, "SELECT a FROM mine", name) == "5\n"
    else:
        assert sql(down.b, "SELECT count(*) FROM t", name).strip() == NEWER[name][1]
        check = ["runuser", "-u", "postgres", "--", "/usr/lib/postgresql/15/bin/pg_amcheck", "--install-missing", name]
        assert down.b.run([*check[:-1], "--heapallindexed", name], cwd="/").stdout == ""
    assert name not in ("plain", "identity", "nulls", "stored", "provided", "json") or not failed, failed


def test_what_an_older_postgresql_does_not_know_is_named(down: Trip) -> None:
    assert "json_exists" in down.reasons("pgsql:json")
    assert sql(down.b, "SELECT one FROM w", "json") == "1\n"
    assert "pg_maintain" in down.reasons("pgsql:role")
    assert (
        sql(down.b, "SELECT rolname FROM pg_roles WHERE rolname IN ('boss', 'worker') ORDER BY 1") == "boss\nworker\n"
    )
    assert sql(down.b, "SELECT datname FROM pg_database WHERE datname ~ '^tklb'") == ""


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; the whole filled server")
def test_filled_server_goes_down_to_postgresql_15_and_all_that_lacks_is_named(tmp_path: Path) -> None:
    binds = {tmp_path: "/mnt/share"}
    with database_clone("trixie", "postgresql", tklb=True, binds=binds) as a:
        fill(a)
        facts = postgresql_checker.record(a)
        leave(a)
    with database_clone("bookworm", "postgresql", tklb=True, hostname="b", binds=binds) as b:
        allow_services(b)
        report = told(b, *FROM_A, statuses=(0, 3, 50))
        named = {item["item"].partition("/")[0].removeprefix("pgsql:") for item in report["skipped"]}
        here = postgresql_checker.record(b)
        lost = {name for name in facts["databases"] if name not in here["databases"]} - {"closed"}
        assert lost <= named, report["skipped"]


# ---------------------------------------------------------------- MariaDB 10.11 -> 11.8

CHECKED = ("--all-databases", "--check", "--extended", "--silent")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trip]:
    binds = {tmp_path_factory.mktemp("share"): "/mnt/share"}
    with database_clone("bookworm", "mariadb", tklb=True, binds=binds) as a:
        ask(a, OLDER)
        if SOAK:
            mariadb.fill(a)
        backup = leave(a)
        backup["seen"] = ask(a, SEEN)
        backup["facts"] = mariadb_checker.record(a) if SOAK else {}
    with database_clone("trixie", "mariadb", tklb=True, hostname="b", binds=binds) as b:
        allow_services(b)
        yield Trip(backup, b, told(b, *FROM_A))


# what 11.8 has another default for, has removed or reserves
OLDER = """
CREATE DATABASE up CHARACTER SET latin1 COLLATE latin1_swedish_ci;
CREATE TABLE up.latin (id INT PRIMARY KEY, a VARCHAR(20)) CHARACTER SET latin1; INSERT INTO up.latin VALUES (1, 'é');
CREATE TABLE up.utf8 (id INT PRIMARY KEY, a VARCHAR(20), UNIQUE (a)) CHARACTER SET utf8mb3;
INSERT INTO up.utf8 VALUES (1, 'ß'), (2, 'x');
CREATE TABLE up.four (a VARCHAR(20) PRIMARY KEY) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;
INSERT INTO up.four VALUES ('😀'), ('a');
CREATE TABLE up.stamps (id INT PRIMARY KEY, a TIMESTAMP NULL, b TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
INSERT INTO up.stamps VALUES (1, NULL, '2037-12-31 23:59:59'), (2, '1970-01-01 00:00:01', '2001-01-01');
CREATE TABLE up.`vector` (`row_number` INT PRIMARY KEY, `to_date` INT); INSERT INTO up.`vector` VALUES (0, 1);
CREATE TABLE up.spaced (a INT PRIMARY KEY, b TEXT) ENGINE=Aria; INSERT INTO up.spaced VALUES (1, 'x');
CREATE TABLE up.packed (a INT PRIMARY KEY, b TEXT) ROW_FORMAT=COMPRESSED; INSERT INTO up.packed VALUES (1, 'x');
CREATE TABLE up.parts (a INT) PARTITION BY HASH (a) PARTITIONS 3; INSERT INTO up.parts VALUES (1), (2), (3);
CREATE VIEW up.shown AS SELECT a FROM up.utf8; CREATE FUNCTION up.one() RETURNS INT DETERMINISTIC RETURN 1;
CREATE USER old@localhost IDENTIFIED VIA mysql_native_password USING PASSWORD('secret');
GRANT SUPER ON *.* TO old@localhost; GRANT ALL ON up.* TO old@localhost;
"""
SEEN = (
    "SELECT HEX(a) FROM up.latin; SELECT HEX(a) FROM up.utf8 ORDER BY id; SELECT HEX(a) FROM up.four ORDER BY a;"
    "SELECT * FROM up.stamps ORDER BY id; SELECT * FROM up.`vector`; SELECT SUM(a) FROM up.parts; SELECT up.one();"
    "SELECT TABLE_NAME, ENGINE, ROW_FORMAT, TABLE_COLLATION FROM information_schema.TABLES"
    " WHERE TABLE_SCHEMA = 'up' ORDER BY 1; CHECKSUM TABLE up.spaced, up.packed, up.utf8"
)


def ask(machine: Appliance, text: str) -> str:
    return machine.run(["mariadb", "--default-character-set=utf8mb4", "--batch", "-N"], input=text).stdout


def test_databases_of_mariadb_10_11_come_to_11_8_as_they_were(up: Trip) -> None:
    assert up.reasons("mysql:up") == ""
    assert ask(up.b, SEEN) == up.backup["seen"]
    login = ["mariadb", "-uold", "-psecret", "-BNe", "SELECT CURRENT_USER(), COUNT(*) FROM up.shown"]
    assert up.b.run(login).stdout == "old@localhost\t2\n"


def test_tables_of_mariadb_hold_by_its_own_check(up: Trip) -> None:
    assert up.b.run(["mariadb-check", *CHECKED]).stdout == ""


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; the whole filled server")
def test_filled_server_of_mariadb_comes_to_11_8(up: Trip) -> None:
    allowed = (
        mariadb_checker.administrators,
        mariadb_checker.counters,
        mariadb_checker.past,
        mariadb_checker.in_database("broken"),
        lambda mismatch: mismatch.kind == "server",
        lambda mismatch: mismatch.name == "`localhost`.`root`.`administered`",
        mariadb_checker.newer_server,
    )
    assert "\n".join(mariadb_checker.compare(up.backup["facts"], mariadb_checker.record(up.b), allowed)) == ""
