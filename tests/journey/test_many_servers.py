"""More than one server of a kind: every cluster and instance is dumped and comes back by its own name; a server in a
container is dumped where access to it is configured, and named where it is not.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.journey.test_databases import allow_services, ask, items, open_shop, told
from tests.lab.appliance import Appliance, clone, stack
from tests.lab.databases import database_clone
from tests.lab.roots import layer
from tests.lab.soak import some

pytestmark = pytest.mark.lab

TARGET, KEY = "file:///mnt/share/target", "/mnt/share/key"
FROM_A = ("restore", "--target", TARGET, "--key", KEY, "--skip", "packages")
REPORTS, SHOP, JAIL = "pgsql@15/reports", "mysql@shop", "mysql@jail"
OFF = ("pgsql@15/old-disabled:*", "pgsql@15/old-manual:*")


class Trip(NamedTuple):
    """What tklb said on A and on B, and how many rows each cluster of B has then."""

    delta: dict[str, Any]
    backup: dict[str, Any]
    down: dict[str, Any]  # the backup while the default cluster is down
    plan: dict[str, Any]
    report: dict[str, Any]
    rows: tuple[str, ...]  # of the default cluster and of the other one
    roles: str  # of the other one


def psql(a: Appliance, port: int, database: str, *statements: str) -> str:
    command = ["su", "postgres", "-s", "/bin/sh", "-c", f"psql -v ON_ERROR_STOP=1 -p {port} -d {database} -qAt"]
    return a.run(command, input="\n".join(statements)).stdout


def port_of(b: Appliance, cluster: str) -> int:
    rows = [line.split() for line in b.run(["pg_lsclusters", "--no-header"]).stdout.splitlines()]
    return next(int(row[2]) for row in rows if row[1] == cluster and row[3] == "online")


@pytest.fixture(scope="module", params=some(["bookworm", "trixie"], 2))
def trip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trip:
    binds = {tmp_path_factory.mktemp("share"): "/mnt/share"}
    with database_clone("bookworm", "postgresql", tklb=True, binds=binds) as a:
        a.run(["pg_createcluster", "15", "reports"])
        for start in ("manual", "disabled"):
            a.run(["pg_createcluster", f"--start-conf={start}", "15", f"old-{start}"])
        a.run(["pg_ctlcluster", "15", "reports", "start"])
        for port, rows in ((5432, 1), (5433, 5)):
            psql(a, port, "postgres", "CREATE DATABASE app;")
            psql(a, port, "app", f"CREATE TABLE t AS SELECT generate_series(1, {rows}) AS x;")
        psql(a, 5433, "postgres", "CREATE ROLE reporter LOGIN;")
        a.run(["tklb", "init", "--target", TARGET])
        a.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
        delta, backup = told(a, "delta"), told(a, "backup", statuses=(0,))
        a.run(["pg_ctlcluster", "15", "main", "stop"])
        down = told(a, "backup", statuses=(50,))
    with database_clone(request.param, "postgresql", tklb=True, hostname="b", binds=binds) as b:
        allow_services(b)
        plan = told(b, *FROM_A, backup["snapshot"], "--dry-run")
        report = told(b, *FROM_A, backup["snapshot"], "--yes")
        ports = (port_of(b, "main"), port_of(b, "reports"))
        rows = tuple(psql(b, port, "app", "SELECT count(*) FROM t;") for port in ports)
        return Trip(
            delta, backup, down, plan, report, rows, psql(b, ports[1], "postgres", "SELECT rolname FROM pg_roles;")
        )


def test_every_cluster_is_a_server_of_its_own(trip: Trip) -> None:
    assert [(found["engine"], found["name"]) for found in trip.delta["databases"]] == [
        ("pgsql", "app"),
        (REPORTS, "app"),
    ]
    assert (trip.backup["databases"]["pgsql"], trip.backup["databases"][REPORTS]) == (["app"], ["app"])


def test_cluster_that_nobody_expects_to_run_is_named_and_no_failure(trip: Trip) -> None:
    assert {item["item"]: item.get("status", 3) for item in trip.backup["skipped"]} == dict.fromkeys(OFF, 0)


def test_dead_cluster_is_named_and_not_taken_for_the_live_one(trip: Trip) -> None:
    assert {item["item"]: item.get("status", 3) for item in trip.down["skipped"]} == {
        "pgsql:*": 50,
        **dict.fromkeys(OFF, 0),
    }
    assert trip.down["databases"][REPORTS] == ["app"]


def test_cluster_comes_back_by_its_name_and_is_made_where_it_is_not_here(trip: Trip) -> None:
    loads = [step["item"] for step in trip.plan["steps"] if step["step"] == "load-database"]
    assert loads == ["pgsql:app", f"{REPORTS}:app"]
    assert any(REPORTS in line for line in trip.plan["warnings"])
    named = {item for item in items(trip.report) if not item.startswith("/etc/postgresql/")}  # the server's trial
    assert named == set(OFF)
    assert [rows.strip() for rows in trip.rows] == ["1", "5"]
    assert "reporter" in trip.roles.split()


# ---------------------------------------------------------------- MariaDB: an instance, and a server in a container


def start_server(a: Appliance, command: list[str], socket: Path) -> None:
    a.run(["sh", "-c", 'setsid "$@" >/dev/null 2>&1 &', "sh", *command])
    until = time.monotonic() + 60
    while a.run(["test", "-S", socket], check=False).returncode != 0:
        assert time.monotonic() < until, command
        time.sleep(0.2)


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("share")


@pytest.fixture(scope="module")
def a(share: Path) -> Iterator[Appliance]:
    """The shop's machine with an instance `shop` and a server whose root is another folder."""
    made = layer("shop", stack("lamp", "a", tklb=True), open_shop, "a")
    with clone("lamp", tklb=True, layers=[made], binds={share: "/mnt/share"}) as box:
        box.start("mariadb")
        (box.root / "etc/mysql/mariadb.conf.d/60-shop.cnf").write_text(
            "[mariadbd.shop]\nsocket=/run/mysqld/shop.sock\ndatadir=/var/lib/mysql-shop\nskip-networking\n"
            "pid-file=/run/mysqld/shop.pid\nlog-error=/var/lib/mysql-shop/log\n"
        )
        for data in ("/var/lib/mysql-shop", "/mnt/jail/data"):
            box.run(["mkdir", "-p", data])
            box.run(["mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", "--skip-test-db"])
        start_server(box, ["mariadbd", "--defaults-group-suffix=.shop", "--user=mysql"], Path("/run/mysqld/shop.sock"))
        box.run(["sh", "-c", JAIL_MOUNTS])
        jail = ["--no-defaults", "--user=mysql", "--datadir=/data", "--socket=/tmp/s", "--skip-networking"]
        start_server(box, ["chroot", "/mnt/jail", "mariadbd", *jail], Path("/mnt/jail/tmp/s"))
        for socket, rows in (("/run/mysqld/shop.sock", 2), ("/mnt/jail/tmp/s", 3)):
            at(box, socket, f"CREATE DATABASE app; USE app; CREATE TABLE app.t AS SELECT seq FROM seq_1_to_{rows}")
        with (box.root / "etc/tklb/overrides").open("a") as overrides:
            overrides.write("-/mnt/jail\n")
        yield box


JAIL_MOUNTS = """
cd /mnt/jail && mkdir -p usr lib lib64 bin sbin etc tmp dev run && chmod 1777 tmp
for name in usr lib lib64 bin sbin etc dev; do [ -d /$name ] && mount --rbind /$name $name; done
"""


def at(a: Appliance, socket: str, sql: str) -> str:
    return a.run(["mariadb", f"--socket={socket}", "--batch", "--skip-column-names"], input=sql).stdout


def test_instance_is_dumped_and_server_in_a_container_is_named(a: Appliance) -> None:
    taken = told(a, "backup", statuses=(3,))
    assert (taken["databases"]["mysql"], taken["databases"][SHOP]) == (["a/b", "shop", "wiki"], ["app"])
    assert [(item["item"], "container" in item["reason"]) for item in taken["skipped"]] == [(f"{JAIL}:*", True)]
    assert told(a, "backup", "--dry-run", "--", f"-{JAIL}:*", statuses=(0,))["skipped"] == []


def test_server_in_a_container_is_dumped_and_loaded_where_its_login_is_configured(a: Appliance) -> None:
    (a.root / "etc/tklb/jail.cnf").write_text("[client]\nsocket=/mnt/jail/tmp/s\nuser=root\n")
    with (a.root / "etc/tklb/tklb.toml").open("a") as config:
        config.write(f'\n[databases]\nservers = ["{JAIL}=/etc/tklb/jail.cnf"]\n')
    taken = told(a, "backup", statuses=(0,))
    assert (taken["databases"][SHOP], taken["databases"][JAIL]) == (["app"], ["app"])
    for socket in ("/run/mysqld/shop.sock", "/mnt/jail/tmp/s"):
        at(a, socket, "DELETE FROM app.t")
    told(a, "restore", "--yes", "--limit", f"{SHOP}:app", "--limit", f"{JAIL}:app/t", statuses=(0,))
    assert at(a, "/run/mysqld/shop.sock", "SELECT COUNT(*) FROM app.t") == "2\n"
    assert at(a, "/mnt/jail/tmp/s", "SELECT COUNT(*) FROM app.t") == "3\n"
    assert "app" not in ask(a, "SHOW DATABASES").split()


MULTI = """[mysqld_multi]
mysqld = /usr/bin/mariadbd-safe
[mysqld7]
socket = /run/mysqld/seven.sock
pid-file = /run/mysqld/seven.pid
datadir = /srv/seven/data
log-error = /srv/seven/log/error.log
port = 3377
"""


GROUP = """[mariadbd.{name}]
socket = /run/mysqld/{name}.sock
datadir = /var/lib/mysql-{name}
skip-networking
pid-file = /run/mysqld/{name}.pid
log-error = /var/lib/mysql-{name}/log
max_connections = {sessions}
"""


def make_instance(machine: Appliance, name: str, rows: int, *, suffix: str = "") -> None:
    """Make the data of an instance that option files have, start it, and fill a table."""
    suffix = suffix or f".{name}"
    machine.run(["install", "-d", "-o", "mysql", f"/var/lib/mysql-{name}", "/run/mysqld"])
    machine.run(["mariadb-install-db", f"--defaults-group-suffix={suffix}", "--user=mysql", "--skip-test-db"])
    socket = f"/run/mysqld/{name}.sock"
    start_server(machine, ["mariadbd", f"--defaults-group-suffix={suffix}", "--user=mysql"], Path(socket))
    at(machine, socket, f"CREATE DATABASE app; USE app; CREATE TABLE app.t AS SELECT seq FROM seq_1_to_{rows}")


class Instances(NamedTuple):
    """B, which had an instance `shop` of its own before the restore, and what the restore reported."""

    b: Appliance
    report: dict[str, Any]


@pytest.fixture(scope="module")
def instances(a: Appliance, share: Path) -> Iterator[Instances]:
    """A's instances: of groups [mariadbd.NAME], and of one of mysqld_multi, whose log has a folder of its own."""
    folder = "etc/mysql/mariadb.conf.d"
    (a.root / folder / "70-multi.cnf").write_text(MULTI)
    (a.root / folder / "71-news.cnf").write_text(GROUP.format(name="news", sessions=44))
    (a.root / folder / "60-shop.cnf").write_text(GROUP.format(name="shop", sessions=66))
    (a.root / folder / "80-bad.cnf").write_text("[mariadbd.shop]\nquery_cach_size = 1M\n")
    a.run(["install", "-d", "-o", "mysql", "/srv/seven/data", "/srv/seven/log"])
    a.run(["mariadb-install-db", "--defaults-group-suffix=7", "--user=mysql", "--skip-test-db"])
    start_server(a, ["mariadbd", "--defaults-group-suffix=7", "--user=mysql"], Path("/run/mysqld/seven.sock"))
    at(a, "/run/mysqld/seven.sock", "CREATE DATABASE app; USE app; CREATE TABLE app.t AS SELECT seq FROM seq_1_to_7")
    at(a, "/run/mysqld/seven.sock", "CREATE USER seven@localhost")
    make_instance(a, "news", 9)
    told(a, "backup", statuses=(0, 3))
    a.run(["cp", "-a", "/mnt/target", "/mnt/share/target"])
    a.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
    with database_clone("bookworm", "mariadb", tklb=True, hostname="b", binds={share: "/mnt/share"}, start=False) as b:
        allow_services(b)
        (b.root / folder / "60-shop.cnf").write_text(GROUP.format(name="shop", sessions=33))
        make_instance(b, "shop", 1)
        yield Instances(b, told(b, *FROM_A, "--yes", statuses=(0, 3, 50)))


def test_instance_that_the_new_machine_lacks_is_made_there(instances: Instances) -> None:
    b, report = instances
    named = {item for item in items(report) if item.startswith(("mysql@", "/etc/mysql")) and JAIL not in item}
    assert named == {"/etc/mysql/mariadb.conf.d/80-bad.cnf"}, report["skipped"]
    assert at(b, "/run/mysqld/news.sock", "SELECT COUNT(*), @@max_connections FROM app.t") == "9\t44\n"
    assert at(b, "/run/mysqld/seven.sock", "SELECT COUNT(*) FROM app.t; SELECT @@port") == "7\n3377\n"
    assert at(b, "/run/mysqld/seven.sock", "SELECT COUNT(*) FROM mysql.user WHERE User = 'seven'") == "1\n"
    assert at(b, "/run/mysqld/mysqld.sock", "SELECT COUNT(*) FROM shop.orders") == "2\n"
    assert (b.root / "srv/seven/log/error.log").is_file()
    assert b.run(["stat", "-c", "%U %a", "/srv/seven/data"]).stdout == "mysql 700\n"


def test_instance_that_runs_is_restarted_with_its_new_settings(instances: Instances) -> None:
    seen = at(instances.b, "/run/mysqld/shop.sock", "SELECT COUNT(*) FROM app.t; SELECT @@max_connections")
    assert seen == "2\n66\n"


def test_setting_that_an_instance_does_not_survive_is_beside_and_named(instances: Instances) -> None:
    (reason,) = (item["reason"] for item in instances.report["skipped"] if "80-bad" in item["item"])
    assert "unknown variable 'query_cach_size=1M'" in reason
