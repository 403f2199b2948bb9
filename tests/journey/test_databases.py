"""Databases, end to end: a server full of everything nasty, backed up, and brought back on a fresh machine.

Every comparison is a lab checker's, which has its own code; tklb is only run, never imported.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.lab import mariadb, mariadb_checker, postgresql, postgresql_checker, wordpress
from tests.lab.appliance import Appliance, clone, stack
from tests.lab.box import Box
from tests.lab.databases import database_clone
from tests.lab.roots import POLICY, layer
from tests.lab.soak import SOAK, some
from tests.lab.test_wordpress_lab import TEXT, TITLE, png

pytestmark = pytest.mark.lab

TARGET, KEY = "file:///mnt/share/target", "/mnt/share/key"
FROM_A = ("restore", "--target", TARGET, "--key", KEY)
PWNED = "tmp/pwned"
STRANGE = {"PGHOSTADDR": "127.0.0.9", "PGTARGETSESSIONATTRS": "standby", "PGSSLMODE": "require", "PGUSER": "nobody"}
Record = dict[str, Any]


class Trip(NamedTuple):
    """What was seen on A and on B, by the checker; what tklb said of backup, delta and restore."""

    a: Record
    b: Record
    backup: dict[str, Any]
    again: dict[str, Any]
    delta: dict[str, Any]
    report: dict[str, Any]
    pwned: bool


def told(
    machine: Box, *words: str, statuses: tuple[int, ...] = (0, 3), env: dict[str, str] | None = None
) -> dict[str, Any]:
    done = machine.run(["tklb", "--json", *words], check=False, timeout=900, env=env)
    assert done.returncode in statuses, done.stdout + done.stderr
    return json.loads(done.stdout) | {"status": done.returncode}


def travel(
    engine: str,
    release: str,
    share: Path,
    fill: Callable[[Appliance], None],
    record: Callable[[Appliance], Record],
) -> Trip:
    """Fill A of bookworm, back it up, bring it back on a fresh B of `release`."""
    binds = {share: "/mnt/share"}
    with database_clone("bookworm", engine, tklb=True, binds=binds) as a:
        fill(a)
        a.run(["tklb", "init", "--target", TARGET])
        a.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
        backup, again, delta = told(a, "backup"), told(a, "backup"), told(a, "delta", env=STRANGE)
        seen = record(a)
        pwned = (a.root / PWNED).exists()
    with database_clone(release, engine, tklb=True, hostname="b", binds=binds, start=False) as b:
        allow_services(b)
        # the server is there, and A's other packages are no matter of databases: they cost more than all else here
        report = told(b, *FROM_A, "--skip", "packages", "--yes")
        return Trip(
            a=seen,
            b=record(b),
            backup=backup,
            again=again,
            delta=delta,
            report=report,
            pwned=pwned or (b.root / PWNED).exists(),
        )


def allow_services(machine: Appliance) -> None:
    """The lab forbids package scripts to start anything, which a restore heeds."""
    (machine.root / POLICY).unlink()


def items(result: dict[str, Any]) -> set[str]:
    return {skipped["item"] for skipped in result["skipped"]}


# ---------------------------------------------------------------- MariaDB

MYSQL_ALLOWED = (
    mariadb_checker.administrators,
    mariadb_checker.counters,
    mariadb_checker.past,
    mariadb_checker.in_database("broken"),
    lambda mismatch: mismatch.kind == "server",  # of federated tables: named, and not taken
    lambda mismatch: mismatch.name == "`localhost`.`root`.`administered`",  # who makes a role is its administrator
)


@pytest.fixture(scope="module", params=some(["trixie", "bookworm"], 2))
def mysql(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trip:
    share = tmp_path_factory.mktemp("share")
    return travel("mariadb", request.param, share, mariadb.fill, mariadb_checker.record)


def test_everything_of_a_mariadb_server_comes_back(mysql: Trip) -> None:
    is_newer = mysql.a["server"] != mysql.b["server"] or any("11." in warning for warning in mysql.report["warnings"])
    allowed = (*MYSQL_ALLOWED, mariadb_checker.newer_server) if is_newer else MYSQL_ALLOWED
    assert len(mysql.a["table"]) > 50
    assert "\n".join(mariadb_checker.compare(mysql.a, mysql.b, allowed)) == ""


def test_what_cannot_be_taken_of_a_mariadb_server_is_named(mysql: Trip) -> None:
    assert mysql.backup["status"] == 3
    named = {item for item in items(mysql.backup) if "broken" not in item and "history" not in item}
    assert {item.partition(" ")[0] for item in named} == {"mysql:server"}  # of federated tables


def test_unchanged_mariadb_server_costs_nothing(mysql: Trip) -> None:
    assert mysql.backup["kind"] == "full"
    assert mysql.again["kind"] == "none"
    assert mysql.again["stored_bytes"] == 0


def test_nothing_planted_in_a_mariadb_server_is_obeyed(mysql: Trip) -> None:
    assert not mysql.pwned


# ---------------------------------------------------------------- PostgreSQL

CLOSED = ("^cluster: databases 'closed'",)  # it lets nobody in, and nobody reconfigures a server


@pytest.fixture(scope="module", params=some(["trixie", "bookworm"], 2))
def pgsql(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trip:
    share = tmp_path_factory.mktemp("share")
    return travel("postgresql", request.param, share, postgresql.fill, postgresql_checker.record)


def test_everything_of_a_postgresql_server_comes_back(pgsql: Trip) -> None:
    assert len(pgsql.a["databases"]) > (30 if SOAK else 20)
    assert postgresql_checker.compare(pgsql.a, pgsql.b, allowed=CLOSED) == []


def test_nothing_of_a_postgresql_server_goes_missing_unnamed(pgsql: Trip) -> None:
    assert items(pgsql.backup) == {"pgsql:closed"}
    assert items(pgsql.report) == {"pgsql:closed"}


def test_unchanged_postgresql_server_costs_nothing(pgsql: Trip) -> None:
    assert pgsql.backup["kind"] == "full"
    assert pgsql.again["kind"] == "none"


def test_environment_of_the_shell_does_not_decide_which_server_is_asked(pgsql: Trip) -> None:
    found = {database["name"] for database in pgsql.delta["databases"]}
    assert found == {*pgsql.backup["databases"]["pgsql"], "closed"}  # of which only the backup has to be let in


def test_nothing_planted_in_a_postgresql_server_is_obeyed(pgsql: Trip) -> None:
    assert not pgsql.pwned


# ---------------------------------------------------------------- an application


def test_wordpress_shows_on_b_what_was_written_on_a(tmp_path: Path) -> None:
    binds = {tmp_path: "/mnt/share"}
    with clone("lamp", tklb=True, binds=binds) as a:
        wordpress.install(a)
        wordpress.publish(a, TITLE, TEXT, png(400))
        there = wordpress.read_post(a)
        cookies = wordpress.log_in(a, wordpress.ADMINISTRATOR, wordpress.PASSWORD)
        a.run(["tklb", "init", "--target", TARGET])
        a.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
        assert told(a, "backup", statuses=(0,))["databases"]["mysql"] == [wordpress.DATABASE]
    with clone("lamp", tklb=True, hostname="b", binds=binds) as b:
        allow_services(b)
        told(b, *FROM_A, "--yes", statuses=(0,))
        b.start("apache2")
        assert wordpress.read_post(b) == there
        assert wordpress.logged_in_as(b, cookies) == wordpress.ADMINISTRATOR
        assert wordpress.log_in(b, wordpress.ADMINISTRATOR, wordpress.PASSWORD)


# ---------------------------------------------------------------- the parts and the ways


@pytest.fixture
def shop() -> Iterator[Appliance]:
    """A small shop and a wiki, on a machine whose target has one snapshot."""
    made = layer("shop", stack("lamp", "a", tklb=True), open_shop, "a")
    with clone("lamp", tklb=True, layers=[made]) as a:
        a.start("mariadb")
        yield a


def open_shop(a: Box) -> None:
    a.run(["/etc/init.d/mariadb", "start"])
    ask(
        a,
        "CREATE DATABASE shop; CREATE DATABASE wiki; CREATE DATABASE `a/b`;"
        "CREATE TABLE shop.orders(id INT PRIMARY KEY, what TEXT);"
        "INSERT INTO shop.orders VALUES(1,'one'),(2,'two');"
        "CREATE TABLE shop.cache(id INT PRIMARY KEY); INSERT INTO shop.cache VALUES(1),(2),(3);"
        "CREATE TABLE wiki.page(id INT PRIMARY KEY); INSERT INTO wiki.page VALUES(7);"
        "CREATE TABLE `a/b`.t(id INT PRIMARY KEY)",
    )
    a.run(["tklb", "init", "--target", "file:///mnt/target"])
    told(a, "backup", statuses=(0,))
    a.run(["/etc/init.d/mariadb", "stop"])


def ask(a: Box, sql: str) -> str:
    return a.run(["mariadb", "--batch", "--skip-column-names"], input=sql).stdout


def test_delta_and_rehearsal_name_the_databases_and_their_size(shop: Appliance) -> None:
    listed = told(shop, "delta")["databases"]
    assert [(found["engine"], found["name"]) for found in listed] == [
        ("mysql", "a/b"), ("mysql", "shop"), ("mysql", "wiki")
    ]  # fmt: skip
    assert all(found["bytes"] > 0 for found in listed)
    rehearsed = told(shop, "backup", "--dry-run")
    assert rehearsed["databases"]["mysql"] == ["a/b", "shop", "wiki"]
    assert rehearsed["kind"] == "none"


def test_overrides_leave_out_databases_and_rows(shop: Appliance) -> None:
    taken = told(shop, "backup", "--", "-mysql:wiki", "-mysql:shop/cache", "-mysql:a%2Fb", statuses=(0,))
    assert taken["databases"]["mysql"] == ["shop"]
    ask(shop, "DELETE FROM shop.orders; INSERT INTO shop.cache VALUES(4); DROP DATABASE wiki; CREATE DATABASE wiki")
    told(shop, "restore", "--yes", statuses=(0,))
    assert ask(shop, "SELECT COUNT(*) FROM shop.orders; SELECT COUNT(*) FROM shop.cache") == "2\n4\n"
    assert ask(shop, "SHOW TABLES FROM wiki") == ""
    ask(shop, "DROP DATABASE shop")
    told(shop, "restore", "--yes", statuses=(0,))
    assert ask(shop, "SELECT COUNT(*) FROM shop.orders; SELECT COUNT(*) FROM shop.cache") == "2\n0\n"


def test_single_table_and_single_database_come_back_alone_or_beside_itself(shop: Appliance) -> None:
    ask(shop, "DELETE FROM shop.orders; DELETE FROM shop.cache; DELETE FROM wiki.page")
    plan = told(shop, "restore", "--dry-run", "--limit", "mysql:shop/orders")
    assert [(step["step"], step["item"]) for step in plan["steps"]] == [("load-database", "mysql:shop")]
    told(shop, "restore", "--yes", "--limit", "mysql:shop/orders", statuses=(0,))
    assert ask(shop, "SELECT COUNT(*) FROM shop.orders; SELECT COUNT(*) FROM shop.cache") == "2\n0\n"
    told(shop, "restore", "--yes", "--limit", "mysql:wiki", statuses=(0,))
    assert ask(shop, "SELECT id FROM wiki.page; SELECT COUNT(*) FROM shop.cache") == "7\n0\n"
    ask(shop, "UPDATE shop.orders SET what = 'changed'")
    told(shop, "restore", "--yes", "--limit", "mysql:shop", "--rename-database", "shop=shop old", statuses=(0,))
    assert (
        ask(shop, "SELECT DISTINCT what FROM shop.orders; SELECT what FROM `shop old`.orders") == "changed\none\ntwo\n"
    )


def test_changed_row_stores_little_and_a_database_that_is_not_there_is_named(shop: Appliance) -> None:
    ask(shop, "UPDATE shop.orders SET what = 'changed' WHERE id = 1")
    changed = told(shop, "backup", "mysql:nosuch", "pgsql:nosuch", statuses=(3,))
    assert changed["kind"] == "incremental"
    assert changed["files"]["changed"] == 0
    assert items(changed) == {"mysql:nosuch", "pgsql:nosuch"}


def test_server_that_does_not_answer_is_named_and_all_else_is_taken(shop: Appliance) -> None:
    shop.stop("mariadb")
    taken = told(shop, "backup", statuses=(50,))
    assert taken["snapshot"]
    assert items(taken) == {"mysql:*"}
    assert "mysql" not in taken["databases"]
    status = told(shop, "status", statuses=(3, 50))
    assert status["problems"]
    quiet = told(shop, "backup", "--", "-mysql:*", statuses=(0,))
    assert quiet["skipped"] == []


def test_skipped_databases_are_not_touched(shop: Appliance) -> None:
    ask(shop, "DELETE FROM shop.orders")
    told(shop, "restore", "--yes", "--skip", "databases", statuses=(0,))
    assert ask(shop, "SELECT COUNT(*) FROM shop.orders") == "0\n"
    assert told(shop, "backup", "--skip", "databases")["databases"]["count"] == 0
