"""An SQLite database at rest, brought back to where another one of that name left a log: none of it gets in."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.appliance import Appliance, clone, stack
from tests.lab.box import Box
from tests.lab.roots import digest_of, layer
from tests.lab.soak import some

pytestmark = pytest.mark.lab

PLACE, LOGGED = "/srv/app/money.db", "/srv/logged/money.db"
NOTES = "/srv/app/notes"  # no database; what is called like its journal is the owner's
AT_REST = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("PRAGMA journal_mode = {mode}")
base.execute("CREATE TABLE money(id INTEGER PRIMARY KEY, amount INTEGER, pad TEXT)")
base.execute("BEGIN")
base.executemany("INSERT INTO money VALUES(?, 100, ?)", ((n, "x" * 300) for n in range(2000)))
base.execute("COMMIT")
"""
# Is killed with all it has in the log or, in the other mode, with half a transaction in the file.
KILLED = """
import os, signal, sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("PRAGMA journal_mode = " + sys.argv[2])
base.execute("PRAGMA cache_size = 5")
base.execute("CREATE TABLE money(id INTEGER PRIMARY KEY, amount INTEGER, pad TEXT)")
base.execute("BEGIN")
base.executemany("INSERT INTO money VALUES(?, 1, ?)", ((n, "y" * 300) for n in range(1000)))
base.execute("COMMIT")
base.execute("BEGIN")
base.execute("UPDATE money SET amount = 2")
if sys.argv[2] == "WAL":
    base.execute("COMMIT")
os.kill(os.getpid(), signal.SIGKILL)
"""
NEWER = """
import os, signal, sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("UPDATE money SET amount = 3 WHERE id < 9")
os.kill(os.getpid(), signal.SIGKILL)
"""
JUDGE = """
import json, sqlite3, sys
base = sqlite3.connect(sys.argv[1])
try:
    found = [*base.execute("PRAGMA integrity_check"), *base.execute("SELECT count(*), sum(amount) FROM money")]
except sqlite3.DatabaseError as exc:
    found = [[str(exc)]]
print(json.dumps(found))
"""
SOUND = [["ok"], [2000, 200_000]]
LEFT = {"WAL": ["money.db-shm", "money.db-wal"], "DELETE": ["money.db-journal"]}
STAYS = ["money.db", "notes", "notes-journal"]


def back_up(a: Box) -> None:
    """Two databases at rest, one of either mode, and a backup."""
    a.run(["mkdir", "/srv/app", "/srv/logged"])
    a.run(["python3", "-c", AT_REST.format(mode="DELETE"), PLACE])
    a.run(["python3", "-c", AT_REST.format(mode="WAL"), LOGGED])
    a.run(["sh", "-c", f"echo one >{NOTES}"])
    a.run(["tklb", "init", "--target", "file:///mnt/target"])
    a.run(["tklb", "backup"])


@pytest.fixture
def a() -> Iterator[Appliance]:
    made = layer(f"at-rest {digest_of(__file__)}", stack("core", "a", tklb=True), back_up, "a")
    with clone("core", tklb=True, layers=[made]) as a:
        yield a


@pytest.fixture(params=sorted(LEFT))
def overtaken(request: pytest.FixtureRequest, a: Appliance) -> Appliance:
    """The machine, after another database took the place of the one at rest, and was left in use."""
    a.run(["rm", PLACE])
    a.run(["python3", "-c", KILLED, PLACE, request.param], check=False)
    a.run(["sh", "-c", f"echo two >{NOTES}; echo mine >{NOTES}-journal"])
    assert names(a) == sorted([*STAYS, *LEFT[request.param]])
    return a


def names(a: Appliance, folder: str = "/srv/app") -> list[str]:
    return sorted(a.run(["ls", folder]).stdout.split())


def restored(a: Appliance, *limits: str) -> dict[str, Any]:
    return dict(json.loads(a.run(["tklb", "restore", "--yes", "--json", *limits]).stdout))


def judged(a: Appliance, place: str = PLACE) -> object:
    return json.loads(a.run(["python3", "-c", JUDGE, place]).stdout)


def test_log_that_another_database_left_never_gets_into_the_restored_one(overtaken: Appliance) -> None:
    restored(overtaken)
    assert names(overtaken) == STAYS
    assert judged(overtaken) == SOUND
    assert overtaken.run(["cat", f"{NOTES}-journal"]).stdout == "mine\n"


def test_database_that_only_its_log_makes_newer_comes_back_as_it_was(a: Appliance) -> None:
    assert names(a, "/srv/logged") == ["money.db"]
    at_rest = (a.root / LOGGED[1:]).read_bytes()
    a.run(["python3", "-c", NEWER, LOGGED], check=False)
    assert (a.root / LOGGED[1:]).read_bytes() == at_rest
    assert names(a, "/srv/logged") == ["money.db", *LEFT["WAL"]]
    [line] = restored(a, "--limit", LOGGED)["warnings"]
    assert line.startswith(f"kept: {LOGGED}-wal ")
    restored(a)
    assert names(a, "/srv/logged") == ["money.db"]
    assert judged(a, LOGGED) == SOUND
    assert restored(a)["steps"] == []


@pytest.mark.parametrize("overtaken", some(sorted(LEFT), 2), indirect=True)
def test_log_that_a_limit_leaves_out_does_get_in_and_is_named(overtaken: Appliance) -> None:
    warnings = restored(overtaken, "--limit", PLACE)["warnings"]
    assert [line for line in warnings if line.startswith(f"kept: {PLACE}-") and "SQLite would replay it" in line]
    assert judged(overtaken) != SOUND
