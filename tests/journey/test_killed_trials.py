"""A restore killed while it tries A's configuration of a database server: one repeat comes home, at whatever step.

The restore runs in a process that counts its renames, deletions and programs from the first note of the trial on. It
kills itself at one of these events. Takes the lab's machines; touches clones and a folder of its own.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.journey.test_server_settings import ask, depart, query, write
from tests.lab.appliance import Appliance
from tests.lab.box import Box
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE, call
from tests.lab.roots import POLICY
from tests.lab.soak import SOAK

pytestmark = [pytest.mark.lab, pytest.mark.slow]

FROM_A = ("--target", "file:///mnt/share/target", "--key", "/mnt/share/key", "--skip", "packages", "--yes")
RESTORE = ("--json", "restore", *FROM_A)
# dies at an event, or some seconds after it
RUN = """
import os, signal, sys, threading
from tklb.__main__ import main

seen = []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def count(event, args):
    if event not in ("os.rename", "os.remove", "subprocess.Popen"):
        return
    if seen or values["first"] in repr(args):
        seen.append(event)
        with open("/mnt/events", "a") as log:
            log.write(f"{event} {args[:2]}\\n")
        if len(seen) == values["number"]:
            threading.Timer(values["late"], die).start() if values["late"] else die()

child = os.fork()
if not child:
    try:
        os.dup2(os.open("/mnt/report", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        sys.argv = ["tklb", *values["words"]]
        sys.addaudithook(count)
        main()
    except SystemExit as exc:
        sys.stdout.flush()
        os._exit(exc.code or 0)
    finally:
        os._exit(99)
answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
KILLED = -9


def prepare_mariadb(a: Appliance) -> None:
    ask(a, "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY); INSERT INTO shop.t VALUES (1), (2)")
    a.stop("mariadb")
    a.run(["mv", "/var/lib/mysql", "/srv/mysql"])
    write(a, f"{MARIADB}/55-places.cnf", "[mysqld]\ndatadir = /srv/mysql\n")
    a.start("mariadb")
    a.run(["sed", "-i", "s/^#max_connections.*/max_connections = 77/", f"{MARIADB}/50-server.cnf"])
    a.run(["chmod", "600", f"{MARIADB}/50-client.cnf"])
    a.run(["rm", f"{MARIADB}/50-mysql-clients.cnf"])
    write(a, f"{MARIADB}/62-page.cnf", "[mysqld]\ninnodb_page_size = 32k\n")


def prepare_postgresql(a: Appliance) -> None:
    query(a, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
    a.stop("postgresql")
    a.run(["sh", "-ec", MOVE_CLUSTER])
    a.start("postgresql")
    for setting in ("work_mem = '9MB'", "ssl_cert_file = '/nowhere.pem'"):
        query(a, f"ALTER SYSTEM SET {setting}")
    for name, line in {"10-good": "maintenance_work_mem = 70MB", "40-word": "serch_path = 'x'"}.items():
        write(a, f"{CLUSTER}/conf.d/{name}.conf", f"{line}\n", "postgres:postgres")


class Kind(NamedTuple):
    """An engine, how A is prepared, how B is asked in the end and what it is to say, and what is named then."""

    engine: str
    prepare: Callable[[Appliance], None]
    ask: Callable[[Box, str], str]
    question: str
    answer: str
    refused: set[str]


MARIADB, CLUSTER = "/etc/mysql/mariadb.conf.d", "/etc/postgresql/15/main"
MOVE_CLUSTER = f"""
install -d /srv/pg && mv /var/lib/postgresql/15/main /srv/pg/main
sed -i "s,^data_directory.*,data_directory = '/srv/pg/main'," {CLUSTER}/postgresql.conf
"""
KINDS = {
    "mariadb": Kind(
        "mariadb",
        prepare_mariadb,
        ask,
        "SELECT COUNT(*), @@datadir, @@max_connections FROM shop.t",
        "2\t/srv/mysql/\t77",
        {f"{MARIADB}/62-page.cnf"},
    ),
    "postgresql": Kind(
        "postgresql",
        prepare_postgresql,
        query,
        "SELECT COUNT(*) FROM t; SHOW data_directory; SHOW maintenance_work_mem; SHOW work_mem",
        "2\n/srv/pg/main\n70MB\n9MB",
        {f"{CLUSTER}/conf.d/40-word.conf", "pgsql:ALTER SYSTEM SET ssl_cert_file"},
    ),
}
# the first file of what is counted, the number of the event, and seconds from it to the kill
Case = tuple[str, int, float]
TRIAL, SETTINGS = "trial.json", "postgresql.auto.conf.tklb-new"
EVERY: list[Case] = [(TRIAL, number, late) for number in range(1, 60) for late in (0, 0.3)]
CASES: dict[str, list[Case]] = {
    "mariadb": EVERY,
    "postgresql": [*EVERY, *((SETTINGS, number, late) for number in range(1, 20) for late in (0, 0.3))],
}
SAMPLE: dict[str, list[Case]] = {
    "mariadb": [(TRIAL, 15, 0)],  # with A's files and the data moved
    "postgresql": [(TRIAL, 13, 0.02), (SETTINGS, 5, 0)],  # while the data move; with settings that were not tried
}


@pytest.fixture(scope="module", params=KINDS if SOAK else ["mariadb"])
def departed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Kind, Path]:
    share, kind = tmp_path_factory.mktemp("share"), KINDS[request.param]
    depart(kind.engine, share, kind.prepare)
    return kind, share


@contextmanager
def fresh(kind: Kind, share: Path) -> Iterator[Appliance]:
    binds = {share: "/mnt/share", **TREE_INSIDE}
    with database_clone("bookworm", kind.engine, tklb=True, hostname="b", binds=binds) as b:
        (b.root / POLICY).unlink()
        yield b


def kill(b: Box, first: str, number: int, late: float) -> int:
    status: int = call(b, RUN, timeout=900, first=first, number=number, late=late, words=RESTORE)
    return status


def check_home(b: Appliance, kind: Kind) -> None:
    done = b.run(["tklb", *RESTORE], check=False, timeout=900)
    assert done.returncode == 3, done.stdout + done.stderr
    named = {item["item"] for item in json.loads(done.stdout)["skipped"]}
    assert named == kind.refused
    assert kind.ask(b, kind.question) == kind.answer
    found = b.run(["find", "/etc", "/var/lib", "/srv", "-name", "*.tklb-*", "-o", "-name", "trial.json"]).stdout.split()
    assert set(found) == {f"{path}.tklb-snapshot" for path in kind.refused if path.startswith("/")}


def test_a_restore_killed_in_the_trial_of_a_configuration_comes_home_by_one_repeat(departed: tuple[Kind, Path]) -> None:
    kind, share = departed
    for case in (CASES if SOAK else SAMPLE)[kind.engine]:
        with fresh(kind, share) as b:
            if kill(b, *case) == KILLED:  # else it had ended before
                check_home(b, kind)
