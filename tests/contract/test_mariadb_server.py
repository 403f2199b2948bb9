"""What a server of MariaDB has beside its databases: time zones, and a port for administrators of a full one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from subprocess import PIPE

import pytest

from tests.contract.test_database_mysql import dump, load, run, sql, wait_for
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE

pytestmark = pytest.mark.lab

PORT = "[mysqld]\nextra_port = 3399\nextra_max_connections = {extra}\nmax_connections = 10\n"
FILE = "etc/mysql/mariadb.conf.d/90-port.cnf"
LOGIN = "[client]\nhost = 127.0.0.1\nport = 3399\nuser = chief\npassword = secret\n"


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    with database_clone("bookworm", "mariadb", binds=TREE_INSIDE) as machine:
        yield machine


FILL = """
import threading, time
from tklb.databases.mariadb import Login
from tklb.databases.mariadb.settings import fill_time_zones
login = Login("/run/mysqld/mysqld.sock")
child = os.fork()
if not child:
    fill_time_zones(login)
    os._exit(0)
time.sleep(values["seconds"])
os.kill(child, 9)
os.waitpid(child, 0)
answer = None
"""
AGAIN = FILL.partition("child =")[0] + "fill_time_zones(login)\nanswer = None\n"
COUNT = "SELECT COUNT(*) FROM mysql.time_zone_name"
WHOLE = f"{COUNT}; SELECT CONVERT_TZ('2026-07-01 12:00', 'UTC', 'Zulu'), CONVERT_TZ('2026-07-01', 'UTC', 'right/UTC')"


def test_tables_of_time_zones_that_a_killed_run_filled_in_part_are_filled_by_the_next(box: Appliance) -> None:
    run(box, AGAIN)
    whole = sql(box, WHOLE)
    assert "NULL" not in whole
    halves = 0
    for seconds in (0.4, 0.7, 1.0, 1.5):
        sql(box, "TRUNCATE mysql.time_zone_name; TRUNCATE mysql.time_zone")
        run(box, FILL, seconds=seconds)
        wait_for(box, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = 'mysql'", "0")
        halves += 0 < int(sql(box, COUNT)) < int(whole.split()[0])
        run(box, AGAIN)
        assert sql(box, WHOLE) == whole
    assert halves
    before = sql(box, "SHOW GLOBAL STATUS LIKE 'Com_truncate'")
    run(box, AGAIN)  # what is whole is not filled again
    assert sql(box, "SHOW GLOBAL STATUS LIKE 'Com_truncate'") == before


@pytest.fixture
def full(box: Appliance, request: pytest.FixtureRequest) -> Iterator[Appliance]:
    """All sessions of the usual port and of the socket are in use, that of administrators too."""
    sql(box, "CREATE OR REPLACE DATABASE one; USE one; CREATE TABLE t AS SELECT seq FROM seq_1_to_500")
    sql(box, "CREATE OR REPLACE USER guest@localhost")
    sql(box, "CREATE OR REPLACE USER chief@`127.0.0.1` IDENTIFIED BY 'secret'")
    sql(box, "GRANT ALL ON *.* TO chief@`127.0.0.1` WITH GRANT OPTION")
    (box.root / FILE).write_text(PORT.format(extra=request.param))
    (box.root / "root/chief.cnf").write_text(LOGIN)
    box.stop("mariadb")
    box.start("mariadb")
    with contextlib.ExitStack() as stack:
        for user in (*["guest"] * 10, "root"):
            command = ["mariadb", "--no-defaults", f"-u{user}", "--unbuffered", "-N"]
            client = stack.enter_context(box.popen(command, stdin=PIPE, stdout=PIPE))
            client.stdin.write(b"SELECT 1;\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"1\n"
        yield box
    (box.root / FILE).unlink()
    box.stop("mariadb")
    box.start("mariadb")


@pytest.mark.parametrize("full", [1, 4], indirect=True)
def test_full_server_is_named_after_a_while_and_dumped_where_the_login_has_its_extra_port(full: Appliance) -> None:
    with pytest.raises(AssertionError, match=r"Too many connections.*waited [3-5] seconds"):
        dump(full, "/tmp/d", "mysql:one", "-mysql:*", lock_seconds=3)
    taken = dump(full, "/tmp/d", "mysql:one", "-mysql:*", defaults="/root/chief.cnf")
    assert (taken["skipped"], taken["tables"]) == ([], {"one": {"t": 500}})
    answer = load(full, "/tmp/d", "one", defaults="/root/chief.cnf")
    if answer["failed"]:  # a load needs more than the dump; what is here stays
        assert "Too many connections" in answer["failed"]
    there = ["mariadb", "--defaults-file=/root/chief.cnf", "-BNe", "SELECT COUNT(*) FROM one.t; SHOW DATABASES"]
    assert full.run(there).stdout.split()[0] == "500"
    assert "tklb" not in full.run(there).stdout
