"""MariaDB's server against the real one: what a dump has, what a load does, and what is left when either fails.

Takes the lab's machines of both releases; touches clones only.
"""

from __future__ import annotations

import subprocess
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab import mariadb_checker as checker
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE, call
from tests.lab.mariadb import fill
from tests.lab.soak import SOAK, some

pytestmark = pytest.mark.lab

START = """
    import os, sys
    from pathlib import Path
    from tklb.databases.filter import build_filter
    from tklb.diff.rules import parse_override
    from tklb.errors import DatabaseFailed
    from tklb.model.databases import DatabaseLoad
    from tklb.databases.dump_format import DumpFolder, read_server, write_server
    from tklb.config.schema import DatabaseConfig
    from tklb.databases.mariadb import find_server
    config = DatabaseConfig(
        mysql_defaults_file=values.get("defaults", ""),
        lock_seconds=values.get("lock_seconds", 5),
        read_back=values.get("read_back", True),
    )
    server = find_server(config)
    nothing = lambda *how_far: None
    def report(result):
        skipped = [[one.item.decode("utf-8", "surrogateescape"), one.reason] for one in result.skipped]
        return {"skipped": skipped, "notes": list(result.notes)}
"""
DUMP = """
    folder = Path(values["folder"]); folder.mkdir(mode=0o700)
    scope = build_filter("mysql", [parse_override(word) for word in values.get("overrides", [])])
    dumped = server.dump_databases(scope, folder, nothing)
    write_server(folder, dumped.server)
    tables = {d.name: {t.name: t.rows for t in d.tables} for d in dumped.server.databases}
    answer = {**report(dumped), "tables": tables, "accounts": dumped.server.accounts}
"""
LOAD = """
    dump = DumpFolder((Path(values["folder"]),))
    saved = read_server(dump)
    answer = {"failed": None, "skipped": [], "notes": [], "lacking": []}
    features = server.read_features().features
    if values.get("accounts"):
        answer.update(report(server.load_accounts(dump, nothing)))
    try:
        for one in saved.databases:
            if values["names"] is None or one.name in values["names"]:
                answer["lacking"] += [word for word in one.needs if word not in features]
                only, kept = values.get("tables"), tuple(values.get("kept", ()))
                into = values.get("into") or one.name
                load = DatabaseLoad(one, into, None if only is None else tuple(only), kept)
                result = report(server.load_database(dump, load, values.get("progress") or nothing))
                answer["skipped"] += result["skipped"]; answer["notes"] += result["notes"]
        answer["skipped"] += report(server.finish())["skipped"]
    except DatabaseFailed as exc:
        answer["failed"] = str(exc)
"""
BROKEN_BY_HAND = {"broken/view of nothing", "broken/on a broken one"}
HISTORY = {"history/explicit", "history/implicit", "history/partitioned"}
SHOP = """
DROP DATABASE IF EXISTS shop; CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci; USE shop;
CREATE SEQUENCE numbers START WITH 100 NOCACHE;
CREATE TABLE customers (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40));
CREATE TABLE orders (id INT PRIMARY KEY DEFAULT NEXTVAL(numbers), customer INT, price FLOAT, note TEXT, raw BLOB,
    CONSTRAINT bought FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE CASCADE);
CREATE TABLE parts (id INT PRIMARY KEY, orders INT, FOREIGN KEY (orders) REFERENCES orders (id));
CREATE TABLE cache (k INT PRIMARY KEY, v TEXT);
CREATE TABLE words (w VARCHAR(20)) ENGINE=MyISAM;
INSERT INTO customers (name) VALUES ('Zoë'), ('it''s'), ('\\n');
INSERT INTO orders (customer, price, note, raw) VALUES (1, 0.1, 'a\\tb', X'00FF27'),
    (2, 16777217, '💩', ''), (3, NULL, NULL, NULL);
INSERT INTO parts VALUES (1, 100), (2, 101);
INSERT INTO cache SELECT seq, REPEAT('x', 200) FROM seq_1_to_5000;
INSERT INTO words VALUES ('a'), ('b'), ('b');
CREATE VIEW totals AS SELECT customer, SUM(price) AS paid FROM orders GROUP BY customer;
CREATE TRIGGER shout BEFORE INSERT ON customers FOR EACH ROW SET NEW.name = UPPER(NEW.name);
CREATE PROCEDURE hello () SELECT 'hello';
CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01' DO DELETE FROM cache;
"""


def run(box: Appliance, source: str, **values: object) -> Any:
    return call(box, textwrap.dedent(START) + textwrap.dedent(source), **values)


def dump(box: Appliance, folder: str, *overrides: str, **values: object) -> Any:
    box.run(["rm", "-rf", folder])
    return run(box, DUMP, folder=folder, overrides=overrides, **values)


def load(box: Appliance, folder: str, *names: str, **values: object) -> Any:
    return run(box, LOAD, folder=folder, names=list(names) or None, **values)


def sql(box: Appliance, statements: str) -> str:
    command = ["mariadb", "--no-defaults", "-uroot", "-N", "--default-character-set=utf8mb4"]
    return str(box.run(command, input=statements).stdout).strip()


def stock(box: Appliance, database: str) -> str:
    """A database as the stock tool writes it: what must be as before, whatever happened."""
    options = [
        "--no-defaults",
        "--skip-dump-date",
        "--routines",
        "--events",
        "--triggers",
        "--hex-blob",
        "--skip-comments",
    ]
    return str(box.run(["mariadb-dump", *options, database]).stdout)


def databases(box: Appliance) -> set[str]:
    return set(sql(box, "SHOW DATABASES").split("\n"))


def items(answer: Any) -> set[str]:
    return {item.removeprefix("mysql:") for item, _ in answer["skipped"]}


@contextmanager
def instead_of_the_dump_tool(box: Appliance, script: str) -> Iterator[None]:
    """A program first in the path, which may call the real one."""
    path = box.root / "usr/local/bin/mariadb-dump"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    try:
        yield
    finally:
        path.unlink()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any, checker.Record]]:
    """A dump of everything that is nasty, twice, and what the server had."""
    share = tmp_path_factory.mktemp("share")
    with database_clone("bookworm", "mariadb", binds={**TREE_INSIDE, share: "/mnt/share"}) as box:
        fill(box)
        answer = dump(box, "/mnt/share/one")
        dump(box, "/mnt/share/two")
        yield share, answer, checker.record(box)


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    with database_clone("bookworm", "mariadb", hostname="b", binds=TREE_INSIDE) as machine:
        yield machine


@pytest.fixture
def shop(box: Appliance) -> Appliance:
    for name in databases(box) - {"information_schema", "performance_schema", "mysql", "sys"}:
        sql(box, f"SET foreign_key_checks = 0; DROP DATABASE `{name.replace('`', '``')}`")
    sql(box, SHOP)
    return box


# ---------------------------------------------------------------- everything, there and back


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; a journey of tklb itself does the same")
def test_dump_takes_all_but_what_it_names(full: tuple[Path, Any, checker.Record]) -> None:
    _, answer, _ = full
    assert items(answer) == HISTORY | {"server 'it\\'s `far`'"}
    assert all(rows is not None for tables in answer["tables"].values() for rows in tables.values())
    assert not [note for note in answer["notes"] if "could not be held" in note or "reported" in note]


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; test_database.py does the same with less")
def test_unchanged_server_gives_the_same_bytes(full: tuple[Path, Any, checker.Record]) -> None:
    share, _, _ = full
    done = subprocess.run(["diff", "-r", share / "one", share / "two"], capture_output=True, text=True, check=False)
    assert done.stdout == ""


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; a journey of tklb itself does the same")
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_everything_comes_back(full: tuple[Path, Any, checker.Record], release: str) -> None:
    share, _, before = full
    with database_clone(release, "mariadb", hostname="b", binds={**TREE_INSIDE, share: "/mnt/share"}) as there:
        answer = load(there, "/mnt/share/one", accounts=True)
        assert answer["failed"] is None
        assert answer["lacking"] == []
        assert items(answer) == BROKEN_BY_HAND
        assert any("gone@nowhere.example" in note for note in answer["notes"])
        after = checker.record(there)
        allowed = [checker.administrators, checker.counters, checker.past, checker.in_database("broken"), named]
        if release == "trixie":
            allowed.append(checker.newer_server)
        assert checker.compare(before, after, allowed) == []
        assert not [name for name in databases(there) if name.startswith("tklb_")]
        assert not (there.root / "tmp/pwned").exists()


def named(mismatch: checker.Mismatch) -> bool:
    """What the dump or the load has named."""
    return mismatch.kind == "server" or mismatch.name == "`localhost`.`root`.`administered`"


# ---------------------------------------------------------------- dumps that must not lie


def test_end_of_a_dump_without_the_dump_is_not_taken_for_a_whole_one(shop: Appliance) -> None:
    with instead_of_the_dump_tool(shop, "echo -- Dump completed"):
        answer = dump(shop, "/root/dump")
    assert answer["skipped"] == []
    # what the tool did not give was read by ourselves
    assert answer["tables"]["shop"] == {"customers": 3, "orders": 3, "parts": 2, "cache": 5000, "words": 3}


def test_table_locked_after_the_dump_began_is_named(shop: Appliance) -> None:
    lock = 'mariadb -e "LOCK TABLES shop.customers WRITE; SELECT SLEEP(600)" > /dev/null 2>&1 &'
    with instead_of_the_dump_tool(shop, f'{lock} sleep 4; exec /usr/bin/mariadb-dump "$@"'):
        answer = dump(shop, "/root/dump", lock_seconds=2)
    end_sessions(shop)
    assert "shop/customers" in items(answer)
    assert answer["tables"]["shop"]["parts"] == 2


@pytest.mark.parametrize("moment", some(["before", "during"], 2, first=1))
def test_many_locked_tables_hold_a_dump_up_about_as_long_as_one(shop: Appliance, moment: str) -> None:
    """The owner of a database may lock each table of it, for hours."""
    tables = [f"held.t{number}" for number in range(40)]
    sql(shop, "CREATE DATABASE held; " + "; ".join(f"CREATE TABLE {one} AS SELECT 1 AS a" for one in tables))
    held = ", ".join(f"{one} WRITE" for one in tables)
    lock = f'mariadb -e "LOCK TABLES {held}; SELECT SLEEP(600)" > /dev/null 2>&1 &'
    if moment == "before":
        shop.run(["sh", "-c", f"{lock} sleep 2"])
    tool = f'{lock if moment == "during" else ""} sleep 4; exec /usr/bin/mariadb-dump "$@"'
    begin = time.monotonic()
    with instead_of_the_dump_tool(shop, tool):
        answer = dump(shop, "/root/dump", lock_seconds=4)
    seconds = time.monotonic() - begin
    end_sessions(shop)
    sql(shop, "DROP DATABASE held")
    assert {f"held/t{number}" for number in range(40)} <= items(answer)
    assert answer["tables"]["shop"]["parts"] == 2
    assert seconds < 40


def test_database_dropped_after_its_rows_came_is_named_and_leaves_nothing(shop: Appliance) -> None:
    sql(shop, "CREATE DATABASE gone; CREATE TABLE gone.t (a INT); INSERT INTO gone.t VALUES (1)")
    with instead_of_the_dump_tool(shop, '/usr/bin/mariadb-dump "$@"; mariadb -e "DROP DATABASE gone"'):
        answer = dump(shop, "/root/dump")
    assert items(answer) == {"gone"}
    assert answer["tables"].keys() == {"shop"}
    assert {path.name for path in (shop.root / "root/dump").iterdir() if path.is_dir()} == {"shop"}


def test_table_changed_during_the_dump_is_named(shop: Appliance) -> None:
    with instead_of_the_dump_tool(shop, '/usr/bin/mariadb-dump "$@"; mariadb -e "ALTER TABLE shop.parts ADD c INT"'):
        answer = dump(shop, "/root/dump")
    assert items(answer) == {"shop/parts"}
    assert "parts" not in answer["tables"]["shop"]


def test_password_of_a_defaults_file_is_seen_by_nobody(shop: Appliance) -> None:
    sql(shop, "CREATE OR REPLACE USER boss@localhost IDENTIFIED BY 'pass-word'; GRANT ALL ON *.* TO boss@localhost")
    (shop.root / "root/my.cnf").write_text("[client]\nuser=boss\npassword=pass-word\nsocket=/run/mysqld/mysqld.sock\n")
    with instead_of_the_dump_tool(shop, 'echo "$@" $(env) > /root/seen; exec /usr/bin/mariadb-dump "$@"'):
        answer = dump(shop, "/root/dump", defaults="/root/my.cnf")
    sql(shop, "DROP USER boss@localhost")
    assert answer["skipped"] == []
    assert "--databases" in (shop.root / "root/seen").read_text()
    assert "pass-word" not in (shop.root / "root/seen").read_text()


def test_machine_without_data_of_a_server_has_none() -> None:
    with database_clone("bookworm", "mariadb", start=False, binds=TREE_INSIDE) as down:
        assert run(down, "answer = server is not None")
        down.run(["rm", "-rf", "/var/lib/mysql"])
        assert run(down, "answer = server is None")


# ---------------------------------------------------------------- loads


def test_load_takes_the_place_of_what_is_there(shop: Appliance) -> None:
    before = stock(shop, "shop")
    dump(shop, "/root/dump")
    sql(
        shop,
        "USE shop; DELETE FROM parts; DROP VIEW totals; CREATE TABLE own (a INT); CREATE VIEW own_view AS SELECT 1",
    )
    sql(shop, "CREATE PROCEDURE shop.own () SELECT 1; DROP TRIGGER shop.shout; ALTER DATABASE shop COLLATE latin1_bin")
    answer = load(shop, "/root/dump", "shop")
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert stock(shop, "shop") == before
    assert not [name for name in databases(shop) if name.startswith("tklb_")]


def test_load_ends_no_session_in_the_database_before_the_swap(shop: Appliance) -> None:
    """The server may list it for a while yet, and the load would tell of somebody whose session it has ended."""
    dump(shop, "/root/dump", "-mysql:*", "mysql:shop")
    sql(shop, "SET GLOBAL log_output = 'TABLE'; TRUNCATE mysql.general_log; SET GLOBAL general_log = 1")
    try:
        answer = load(shop, "/root/dump", "shop")
    finally:
        sql(shop, "SET GLOBAL general_log = 0; SET GLOBAL log_output = DEFAULT")
    assert (answer["failed"], answer["notes"]) == (None, [])
    log = sql(shop, "SELECT thread_id, command_type, REPLACE(argument, '\n', ' ') FROM mysql.general_log")
    inside: dict[str, str] = {}
    ended = []
    for number, kind, words in (line.split("\t", 2) for line in log.splitlines()):
        if words.startswith("RENAME TABLE"):
            break
        if words.startswith("USE "):
            inside[number] = words
        if kind == "Quit":
            ended.append(inside.get(number))
    else:
        raise AssertionError("nothing was swapped")
    assert "USE `shop`" in log
    assert len(ended) > 1
    assert "USE `shop`" not in ended


def test_load_works_where_the_server_takes_no_local_files(shop: Appliance) -> None:
    before = stock(shop, "shop")
    dump(shop, "/root/dump")
    sql(shop, "SET GLOBAL local_infile = 0; DELETE FROM shop.cache")
    answer = load(shop, "/root/dump", "shop")
    sql(shop, "SET GLOBAL local_infile = 1")
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert stock(shop, "shop") == before


def test_load_by_hand_needs_the_stock_client_only(shop: Appliance) -> None:
    before = stock(shop, "shop")
    dump(shop, "/root/dump")
    sql(shop, "DROP DATABASE shop; CREATE DATABASE shop COLLATE utf8mb4_unicode_ci")
    shop.run(["sh", "-c", "cd /root/dump/shop && mariadb --local-infile shop < load.sql"])
    assert stock(shop, "shop") == before


DAMAGES = {
    "a file is missing": "rm /root/dump/shop/rows/customers",
    "a table cannot be made": "echo 'CREATE TABLE words (a NONSENSE)' > /root/dump/shop/tables/words.sql",
    "values do not fit": "sed -i 's/^1,/1000000000000,/;s/^2,/1000000000000,/' /root/dump/shop/rows/parts",
    "the catalogue is torn": "truncate -s 100 /root/dump/shop/definitions.json",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_failed_load_leaves_the_old_database(shop: Appliance, damage: str) -> None:
    dump(shop, "/root/dump")
    sql(shop, "INSERT INTO shop.customers (name) VALUES ('new')")
    before, names = stock(shop, "shop"), databases(shop)
    shop.run(["sh", "-c", DAMAGES[damage]])
    answer = load(shop, "/root/dump", "shop")
    assert answer["failed"] is not None
    assert answer["failed"].startswith("database mysql:shop")
    assert stock(shop, "shop") == before
    assert databases(shop) == names


LATE = """
from tklb.databases.mariadb.load import swap
usual = swap.redirect_foreign_keys
def stop(*_):
    swap.redirect_foreign_keys = usual
    {how}
swap.redirect_foreign_keys = stop
"""
EARLY = "def stop(*_):\n    {how}\nvalues['progress'] = stop\n"


@pytest.mark.parametrize("when", [EARLY, LATE], ids=["while rows come", "after the swap"])
def test_interrupted_load_leaves_the_old_database(shop: Appliance, when: str) -> None:
    dump(shop, "/root/dump")
    sql(
        shop,
        "INSERT INTO shop.customers (name) VALUES ('new'); GRANT EXECUTE ON PROCEDURE shop.hello TO mysql@localhost",
    )
    before, names = stock(shop, "shop"), databases(shop)
    source = textwrap.dedent(when.format(how="raise KeyboardInterrupt")) + "try:\n"
    source += textwrap.indent(textwrap.dedent(LOAD), "    ") + "\nexcept KeyboardInterrupt:\n    answer = 'stopped'"
    assert call(shop, textwrap.dedent(START) + source, folder="/root/dump", names=["shop"]) == "stopped"
    assert stock(shop, "shop") == before
    assert databases(shop) == names


# Somebody drops an account after its grants were noted, before they are given back.
UNDER_WAY = """
from tklb.databases.mariadb.load import swap
usual = swap.swap_database
def stop(session, *more):
    session.run("DROP USER fleeting@localhost")
    return usual(session, *more)
swap.swap_database = stop
"""
CALLERS = (
    "CREATE OR REPLACE USER fleeting@localhost, staying@localhost; CREATE PROCEDURE shop.later () SELECT 2;"
    "GRANT EXECUTE ON PROCEDURE shop.hello TO fleeting@localhost;"
    "GRANT EXECUTE ON PROCEDURE shop.later TO staying@localhost"
)


def test_grant_on_a_routine_that_cannot_be_given_back_is_named(shop: Appliance) -> None:
    dump(shop, "/root/dump")
    sql(shop, CALLERS)
    source = textwrap.dedent(START) + UNDER_WAY + textwrap.dedent(LOAD)
    answer = call(shop, source, folder="/root/dump", names=["shop"])
    sql(shop, "DROP USER staying@localhost")
    ((item, reason),) = answer["skipped"]
    assert item == "mysql:shop"
    assert "`hello` TO `fleeting`" in reason
    (note,) = [note for note in answer["notes"] if "`later`" in note]
    assert "no such routine any more" in note


def test_what_a_failed_load_cannot_put_back_is_named(shop: Appliance) -> None:
    dump(shop, "/root/dump")
    sql(shop, "CREATE TABLE shop.t (a INT); CREATE VIEW shop.broken AS SELECT a FROM shop.t; DROP TABLE shop.t")
    sql(shop, CALLERS)
    source = textwrap.dedent(START) + UNDER_WAY + textwrap.dedent(LATE.format(how="raise KeyError")) + LOAD_OR_SAY
    failed = call(shop, source, folder="/root/dump", names=["shop"])
    sql(shop, "DROP USER staying@localhost")
    assert "mysql:shop/broken" in failed
    assert "`hello` TO `fleeting`" in failed


LOAD_OR_SAY = textwrap.dedent(LOAD) + "\nanswer = answer['failed']"


def test_lists_that_the_server_cannot_give_are_named(shop: Appliance) -> None:
    sql(shop, "RENAME TABLE mysql.servers TO mysql.gone_servers, mysql.func TO mysql.gone_func")
    try:
        answer = dump(shop, "/root/dump")
    finally:
        sql(shop, "RENAME TABLE mysql.gone_servers TO mysql.servers, mysql.gone_func TO mysql.func")
    assert items(answer) == {"servers", "functions of plugins"}


@pytest.mark.parametrize("when", [EARLY, LATE], ids=["while rows come", "after the swap"])
def test_killed_load_is_brought_home_by_repeating_it(shop: Appliance, when: str) -> None:
    before, names = stock(shop, "shop"), databases(shop)
    dump(shop, "/root/dump")
    sql(shop, "DELETE FROM shop.parts")
    source = textwrap.dedent(when.format(how="import os; os._exit(9)")) + textwrap.dedent(LOAD)
    with pytest.raises(AssertionError, match="ended with 9"):
        call(shop, textwrap.dedent(START) + source, folder="/root/dump", names=["shop"])
    assert databases(shop) > names
    assert dump(shop, "/root/again")["tables"].keys() == {"shop"}
    assert load(shop, "/root/dump", "shop")["failed"] is None
    assert stock(shop, "shop") == before
    assert databases(shop) == names


def test_load_goes_on_where_the_session_of_a_killed_one_still_drops_what_it_left(shop: Appliance) -> None:
    dump(shop, "/root/dump", "-mysql:*", "mysql:shop")
    left = "tklb_aside_0123456789abcdef"
    sql(shop, f"CREATE DATABASE {left}; CREATE TABLE {left}.t (a INT)")
    dropping = f"SELECT COUNT(*) {OTHERS} AND INFO LIKE 'DROP DATABASE%{left}%'"
    with (
        ThreadPoolExecutor(1) as pool,
        session(shop, f"LOCK TABLES {left}.t READ; SELECT SLEEP(100)"),
        session(shop, f"DROP DATABASE {left}"),
    ):
        wait_for(shop, dropping, "1")
        loading = pool.submit(load, shop, "/root/dump", "shop", lock_seconds=60)
        wait_for(shop, dropping, "2")
        (holder,) = sql(shop, f"SELECT ID {OTHERS} AND INFO = 'SELECT SLEEP(100)'").split()
        sql(shop, f"KILL {holder}")
        answer = loading.result()
    assert (answer["failed"], answer["skipped"], answer["notes"]) == (None, [], [])
    assert left not in databases(shop)


def test_single_table_is_loaded_alone(shop: Appliance) -> None:
    dump(shop, "/root/dump")
    sql(shop, "USE shop; UPDATE customers SET name = 'other'; DELETE FROM parts; DELETE FROM orders WHERE id = 102")
    answer = load(shop, "/root/dump", "shop", tables=["orders"])
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert sql(shop, "SELECT COUNT(*) FROM shop.orders") == "3"
    assert sql(shop, "SELECT DISTINCT name FROM shop.customers") == "other"
    assert sql(shop, "SELECT COUNT(*) FROM shop.parts") == "0"
    keys = "SELECT TABLE_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE"
    found = sql(shop, f"{keys} WHERE REFERENCED_TABLE_SCHEMA IS NOT NULL AND TABLE_SCHEMA = 'shop' ORDER BY 1")
    assert found == "orders\tshop\tcustomers\nparts\tshop\torders"


def test_single_table_comes_with_its_triggers(shop: Appliance) -> None:
    before = stock(shop, "shop")
    dump(shop, "/root/dump")
    sql(shop, "DROP TRIGGER shop.shout; UPDATE shop.customers SET name = 'x'")
    assert load(shop, "/root/dump", "shop", tables=["customers"])["skipped"] == []
    assert stock(shop, "shop") == before


def test_rows_that_were_not_brought_stay(shop: Appliance) -> None:
    dump(shop, "/root/dump", "-mysql:shop/orders")
    sql(shop, "DELETE FROM shop.parts; DELETE FROM shop.orders WHERE id = 100; DELETE FROM shop.cache")
    answer = load(shop, "/root/dump", "shop", kept=["orders"])
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert sql(shop, "SELECT GROUP_CONCAT(id) FROM shop.orders") == "101,102"
    assert sql(shop, "SELECT COUNT(*) FROM shop.cache") == "5000"
    with pytest.raises(AssertionError, match="foreign key constraint fails"):
        sql(shop, "INSERT INTO shop.orders (id, customer) VALUES (7, 999)")
    sql(shop, "DROP DATABASE shop")
    assert load(shop, "/root/dump", "shop", kept=["orders"])["failed"] is None
    assert sql(shop, "SELECT COUNT(*) FROM shop.orders") == "0"


def test_database_goes_to_another_name(shop: Appliance) -> None:
    before = stock(shop, "shop")
    sql(shop, "CREATE PROCEDURE shop.names_it () SELECT * FROM shop.cache")
    dump(shop, "/root/dump")
    answer = load(shop, "/root/dump", "shop", into="other`s")
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert any("names_it" in note for note in answer["notes"])
    sql(shop, "DROP PROCEDURE shop.names_it; DROP PROCEDURE `other``s`.names_it")
    assert stock(shop, "other`s").replace("`other``s`", "`shop`") == before
    assert stock(shop, "shop") == before


def test_keys_of_other_databases_go_on_pointing_here(shop: Appliance) -> None:
    sql(
        shop,
        "CREATE DATABASE far; CREATE TABLE far.t (a INT, CONSTRAINT c FOREIGN KEY (a) REFERENCES shop.orders (id))",
    )
    before = stock(shop, "far")
    dump(shop, "/root/dump")
    assert load(shop, "/root/dump", "shop")["skipped"] == []
    assert stock(shop, "far") == before


def test_view_that_needs_a_database_loaded_later_is_made_then(shop: Appliance) -> None:
    sql(shop, "CREATE DATABASE a; CREATE VIEW a.v AS SELECT id FROM shop.customers")
    dump(shop, "/root/dump")
    sql(shop, "DROP DATABASE shop; DROP DATABASE a")
    answer = load(shop, "/root/dump")
    assert items(answer) == set()
    assert sql(shop, "SELECT COUNT(*) FROM a.v") == "3"


def test_accounts_come_with_their_grants_and_others_stay(shop: Appliance) -> None:
    sql(
        shop,
        "CREATE USER 'o''brien'@'%' IDENTIFIED BY 'x'; GRANT SELECT ON shop.orders TO 'o''brien'@'%'; CREATE ROLE r",
    )
    sql(shop, "GRANT EXECUTE ON PROCEDURE shop.hello TO r; GRANT r TO 'o''brien'@'%' WITH ADMIN OPTION")
    before = sql(shop, "SHOW GRANTS FOR 'o''brien'@'%'; SHOW GRANTS FOR r; SHOW GRANTS FOR root@localhost")
    assert "user 'o\\'brien'@'%'" in dump(shop, "/root/dump")["accounts"]
    sql(shop, "DROP USER 'o''brien'@'%'; DROP ROLE r; DROP DATABASE shop; CREATE USER 'here'@'%' IDENTIFIED BY 'y'")
    answer = load(shop, "/root/dump", accounts=True)
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert sql(shop, "SHOW GRANTS FOR 'o''brien'@'%'; SHOW GRANTS FOR r; SHOW GRANTS FOR root@localhost") == before
    assert "here" in sql(shop, "SELECT User FROM mysql.user")
    sql(shop, "DROP USER 'o''brien'@'%', 'here'@'%'; DROP ROLE r")


def test_statement_that_is_no_account_is_not_run(shop: Appliance) -> None:
    sql(shop, "CREATE USER planted@'%'")
    dump(shop, "/root/dump")
    sql(shop, "DROP USER planted@'%'")
    shop.run(
        ["sed", "-i", 's/"create": "CREATE USER [^"]*"/"create": "DROP DATABASE shop"/', "/root/dump/accounts.json"]
    )
    answer = load(shop, "/root/dump", "nothing", accounts=True)
    assert items(answer) == {"user 'planted'@'%'"}
    assert "shop" in databases(shop)


# ---------------------------------------------------------------- means


def wait_for(box: Appliance, question: str, answer: str) -> None:
    until = time.monotonic() + 60
    while sql(box, question) != answer:
        assert time.monotonic() < until, question
        time.sleep(0.05)


OTHERS = "FROM information_schema.PROCESSLIST WHERE COMMAND <> 'Daemon' AND ID <> CONNECTION_ID()"


@contextmanager
def session(box: Appliance, statements: str) -> Iterator[None]:
    """Somebody else's session, whose last statement takes long."""
    last = statements.rpartition(";")[2].strip()
    before = int(sql(box, f"SELECT COUNT(*) {OTHERS}"))
    with box.popen(["mariadb", "-e", statements], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as client:
        wait_for(box, f"SELECT COUNT(*) > {before} {OTHERS}", "1")
        if "SLEEP" in last:
            wait_for(box, f"SELECT COUNT(*) > 0 {OTHERS} AND INFO = '{last}'", "1")
        try:
            yield
        finally:
            end_sessions(box)
            client.wait(60)


def end_sessions(box: Appliance) -> None:
    for number in sql(box, f"SELECT ID {OTHERS}").split():
        box.run(["mariadb", "-e", f"KILL {number}"], check=False)
