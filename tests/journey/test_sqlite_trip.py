"""An SQLite database that an application writes to all the time, backed up and brought back."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.journey.taken_backup import server_a
from tests.lab.appliance import Appliance
from tests.lab.soak import some

pytestmark = pytest.mark.lab

PLACE = "/srv/app/money.db"
# Moves money between accounts for ever; every balance has its twin in the other table, so that any torn copy shows.
APPLICATION = """
import random, sqlite3, sys, time
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("PRAGMA journal_mode = " + sys.argv[2])
base.execute("PRAGMA synchronous = OFF")
base.execute("CREATE TABLE IF NOT EXISTS one(id INTEGER PRIMARY KEY, amount INTEGER, pad TEXT)")
base.execute("CREATE TABLE IF NOT EXISTS two(id INTEGER PRIMARY KEY, amount INTEGER, pad TEXT)")
for table in ("one", "two"):
    base.executemany(f"INSERT INTO {table} VALUES(?, 100, ?)", ((n, "x" * 300) for n in range(2000)))
print("ready", flush=True)
chance = random.Random(1)
while True:
    base.execute("BEGIN IMMEDIATE")
    a, b, amount = chance.randrange(2000), chance.randrange(2000), chance.randrange(50)
    for table in ("one", "two"):
        base.execute(f"UPDATE {table} SET amount = amount - ? WHERE id = ?", (amount, a))
        base.execute(f"UPDATE {table} SET amount = amount + ? WHERE id = ?", (amount, b))
    base.execute("COMMIT")
    time.sleep(0.0005)  # a processor for itself would be taken from the backup
"""
JUDGE = """
import json, sqlite3, sys
base = sqlite3.connect(sys.argv[1])
print(json.dumps([
    base.execute("PRAGMA integrity_check").fetchone()[0],
    base.execute("SELECT sum(amount) FROM one").fetchone()[0],
    base.execute("SELECT count(*) FROM one JOIN two USING (id) WHERE one.amount = two.amount").fetchone()[0],
]))
"""
SOUND = ["ok", 200_000, 2000]


# Moves all of one table's money and is killed before the other's, when half of it is in the file already.
INTERRUPTED = """
import os, signal, sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("PRAGMA cache_size = 5")
base.execute("BEGIN")
base.execute("UPDATE one SET amount = amount + 7")
os.kill(os.getpid(), signal.SIGKILL)
"""
JOURNAL = f"{PLACE}-journal"


@pytest.fixture(params=some(["WAL", "DELETE"], 2))
def busy(request: pytest.FixtureRequest) -> Iterator[tuple[Appliance, subprocess.Popen[bytes]]]:
    """A machine whose application is writing."""
    with server_a() as a:
        a.run(["useradd", "--system", "app"])
        a.run(["install", "--directory", "--owner=app", "/srv/app"])
        command = ["runuser", "-u", "app", "--", "python3", "-c", APPLICATION, PLACE, request.param]
        with a.popen(command, stdout=subprocess.PIPE) as application:
            assert application.stdout is not None
            assert application.stdout.readline() == b"ready\n"
            yield a, application
            application.kill()


def told(a: Appliance, *words: str, status: int = 0) -> dict[str, Any]:
    command, *more = words
    done = a.run(["tklb", command, "--json", *more], check=False)
    assert done.returncode == status, done.stderr
    return dict(json.loads(done.stdout))


def judged(a: Appliance, place: str) -> object:
    return json.loads(a.run(["python3", "-c", JUDGE, place]).stdout)


def test_database_that_is_written_to_comes_back_whole(busy: tuple[Appliance, subprocess.Popen[bytes]]) -> None:
    a, application = busy
    assert told(a, "backup")["skipped"] == []
    assert told(a, "backup")["kind"] == "incremental"
    application.kill()
    application.wait()
    a.run(["mv", "/srv/app", "/root/gone"])  # whatever still writes there goes along
    a.run(["tklb", "restore", "--yes"])
    assert json.loads(a.run(["python3", "-c", JUDGE, PLACE]).stdout) == SOUND
    assert a.run(["stat", "--format=%U %a", PLACE]).stdout == "app 644\n"
    assert a.run(["ls", "/srv/app"]).stdout == "money.db\n"


@pytest.mark.parametrize("busy", some(["DELETE", "WAL"], 2), indirect=True)
def test_copy_can_be_taken_out_by_itself(busy: tuple[Appliance, subprocess.Popen[bytes]]) -> None:
    a, _ = busy
    told(a, "backup")
    a.run(["tklb", "restore", "--into", "/root/look"])
    assert json.loads(a.run(["python3", "-c", JUDGE, f"/root/look{PLACE}"]).stdout) == SOUND


@pytest.mark.parametrize("busy", ["WAL"], indirect=True)  # stopped in the other mode, it may hold a lock
def test_database_in_use_that_did_not_change_costs_nothing(busy: tuple[Appliance, subprocess.Popen[bytes]]) -> None:
    a, application = busy
    a.run(["pkill", "--signal", "STOP", "--full", "--", "isolation_level"])
    assert told(a, "backup")["kind"] == "incremental"
    assert told(a, "backup")["kind"] == "none"
    assert application.poll() is None


@pytest.fixture
def interrupted(busy: tuple[Appliance, subprocess.Popen[bytes]]) -> Appliance:
    """The machine, after its application was killed in the middle of a transaction."""
    a, application = busy
    application.kill()
    application.wait()
    a.run(["pkill", "--signal", "KILL", "--full", "--", "isolation_level"])
    assert judged(a, PLACE) == SOUND  # which also settles what the kill left
    a.run(["runuser", "-u", "app", "--", "python3", "-c", INTERRUPTED, PLACE], check=False)
    a.run(["test", "-s", JOURNAL])
    return a


@pytest.mark.parametrize("busy", ["DELETE"], indirect=True)
def test_database_left_in_a_transaction_is_whole_with_its_journal(interrupted: Appliance) -> None:
    (skipped,) = told(interrupted, "backup", status=3)["skipped"]
    assert skipped["item"] == PLACE
    assert skipped["reason"].endswith(f"it is whole with {JOURNAL} beside it only")
    interrupted.run(["mv", "/srv/app", "/root/gone"])
    (again,) = told(interrupted, "restore", "--yes", status=3)["skipped"]
    assert again["item"] == PLACE
    assert judged(interrupted, PLACE) == SOUND


@pytest.mark.parametrize("busy", ["DELETE"], indirect=True)
def test_database_left_in_a_transaction_without_its_journal_is_said_to_be_torn(interrupted: Appliance) -> None:
    (skipped,) = told(interrupted, "backup", "--", f"-{JOURNAL}", status=3)["skipped"]
    assert skipped["item"] == PLACE
    assert skipped["reason"].endswith(f"perhaps torn: {JOURNAL} is not taken")
    (again,) = told(interrupted, "restore", "--into", "/root/look", status=3)["skipped"]
    assert again["item"] == PLACE
    assert judged(interrupted, f"/root/look{PLACE}") != SOUND


@pytest.mark.parametrize("busy", some(["WAL", "DELETE"], 2), indirect=True)
def test_copies_can_be_turned_off(busy: tuple[Appliance, subprocess.Popen[bytes]]) -> None:
    a, _ = busy
    a.run(["sh", "-c", "printf '[databases]\\nsqlite = false\\n' >>/etc/tklb/tklb.toml"])
    a.run(["tklb", "backup"], check=False)
    a.run(["tklb", "restore", "--into", "/root/look"], check=False)
    assert a.run(["ls", "/root/look/var/lib/tklb/stage"]).stdout.split().count("databases") == 0
