"""An SQLite database that an application writes to all the time, backed up and brought back."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.appliance import Appliance, clone

pytestmark = pytest.mark.lab

PLACE = "/srv/app/money.db"
# Moves money between accounts for ever; every balance has its twin in the other table, so that any torn copy shows.
APPLICATION = """
import random, sqlite3, sys
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


@pytest.fixture(params=["WAL", "DELETE"])
def busy(request: pytest.FixtureRequest) -> Iterator[tuple[Appliance, subprocess.Popen[bytes]]]:
    """A machine whose application is writing."""
    with clone("core", tklb=True) as a:
        a.run(["useradd", "--system", "app"])
        a.run(["install", "--directory", "--owner=app", "/srv/app"])
        command = ["runuser", "-u", "app", "--", "python3", "-c", APPLICATION, PLACE, request.param]
        with a.popen(command, stdout=subprocess.PIPE) as application:
            assert application.stdout is not None
            assert application.stdout.readline() == b"ready\n"
            a.run(["tklb", "init", "--target", "file:///mnt/target"])
            yield a, application
            application.kill()


def told(a: Appliance, *words: str) -> dict[str, object]:
    return json.loads(a.run(["tklb", *words, "--json"]).stdout)


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


def test_copy_can_be_taken_out_by_itself(busy: tuple[Appliance, subprocess.Popen[bytes]]) -> None:
    a, _ = busy
    told(a, "backup")
    a.run(["tklb", "restore", "--into", "/root/look"])
    assert json.loads(a.run(["python3", "-c", JUDGE, f"/root/look{PLACE}"]).stdout) == SOUND


@pytest.mark.parametrize("busy", ["WAL"], indirect=True)  # stopped in the other mode, it may hold a lock
def test_database_in_use_that_did_not_change_costs_nothing(busy: tuple[Appliance, subprocess.Popen[bytes]]) -> None:
    a, application = busy
    a.run(["pkill", "--signal", "STOP", "--full", "--", "isolation_level"])
    assert told(a, "backup")["kind"] == "full"
    assert told(a, "backup")["kind"] == "none"
    assert application.poll() is None


def test_copies_can_be_turned_off(busy: tuple[Appliance, subprocess.Popen[bytes]]) -> None:
    a, _ = busy
    a.run(["sh", "-c", "printf '[databases]\\nsqlite = false\\n' >>/etc/tklb/tklb.toml"])
    a.run(["tklb", "backup"], check=False)
    a.run(["tklb", "restore", "--into", "/root/look"], check=False)
    assert a.run(["ls", "/root/look/var/lib/tklb/stage"]).stdout.split().count("databases") == 0
