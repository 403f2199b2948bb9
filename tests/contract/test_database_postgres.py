"""PostgreSQL's server against the real one: what a dump has, what a load does, and what is left when either fails."""

from __future__ import annotations

import itertools
import json
import subprocess
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from tests.lab import postgresql_checker as checker
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE, call
from tests.lab.postgresql import PSQL, PWNED, RISKY, fill, ident, sql
from tests.lab.soak import SOAK, some

pytestmark = pytest.mark.lab

NUMBERS = itertools.count()

START = """
    import sys, time
    from pathlib import Path
    from tklb.databases.filter import build_filter
    from tklb.diff.rules import parse_override
    from tklb.errors import DatabaseFailed
    from tklb.model.databases import DatabaseLoad
    from tklb.databases.dump_format import DumpFolder, read_server, write_server
    from tklb.config.schema import DatabaseConfig
    from tklb.databases.postgresql import find_server
    config = {"lock_seconds": values.get("lock_seconds", 5), "read_back": values.get("read_back", True)}
    server = find_server(DatabaseConfig(pgsql_service="", **config))
    nothing = lambda *how_far: None
    def report(result):
        skipped = [[one.item.decode("utf-8", "surrogateescape"), one.reason] for one in result.skipped]
        return {"skipped": skipped, "notes": list(result.notes)}
"""
DUMP = """
    folder = Path(values["folder"]); folder.mkdir()
    scope = build_filter("pgsql", [parse_override(word) for word in values.get("overrides", [])])
    dumped = server.dump_databases(scope, folder, nothing)
    write_server(folder, dumped.server)
    tables = {d.name: {t.name: t.rows for t in d.tables} for d in dumped.server.databases}
    answer = {**report(dumped), "tables": tables, "needs": {d.name: d.needs for d in dumped.server.databases}}
"""
LOAD = """
    dump = DumpFolder((Path(values["folder"]),))
    saved = read_server(dump)
    answer = {"failed": None, "skipped": [], "notes": []}
    if values.get("accounts"):
        answer.update(report(server.load_accounts(dump, nothing)))
    try:
        for one in saved.databases:
            if values["names"] is None or one.name in values["names"]:
                tables = values.get("tables")
                into = values.get("into") or one.name
                kept = tuple(values.get("kept", ()))
                load = DatabaseLoad(one, into, None if tables is None else tuple(tables), kept)
                result = report(server.load_database(dump, load, nothing))
                answer["skipped"] += result["skipped"]; answer["notes"] += result["notes"]
    except DatabaseFailed as exc:
        answer["failed"] = str(exc)
    result = report(server.finish())
    answer["skipped"] += result["skipped"]; answer["notes"] += result["notes"]
"""


def dump(box: Appliance, folder: str, **values: object) -> Any:
    return call(box, textwrap.dedent(START) + textwrap.dedent(DUMP), folder=folder, timeout=600, **values)


def load(box: Appliance, folder: str, *names: str, **values: object) -> Any:
    source = textwrap.dedent(START) + textwrap.dedent(LOAD)
    return call(box, source, folder=folder, names=names or None, timeout=600, **values)


def leftovers(box: Appliance) -> str:
    databases = "SELECT datname FROM pg_database WHERE datname ~ '^tklb'"
    return sql(box, f"{databases} UNION ALL SELECT rolname FROM pg_roles WHERE rolname ~ '^tklb'")


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    """One machine for all that needs no more than a database of its own."""
    with database_clone("bookworm", "postgresql", binds=TREE_INSIDE) as machine:
        yield machine


@pytest.fixture
def shop(box: Appliance) -> Iterator[str]:
    """A fresh database with two tables that belong together, and a view."""
    name = f"shop {next(NUMBERS)}"
    sql(box, f"CREATE DATABASE {ident(name)} TEMPLATE template0")
    sql(box, SHOP, name)
    yield name
    sql(box, f"DROP DATABASE IF EXISTS {ident(name)} WITH (FORCE)")


SHOP = """
CREATE TABLE customer (id serial PRIMARY KEY, name text);
CREATE TABLE bill (id int PRIMARY KEY, customer int REFERENCES customer, amount numeric);
INSERT INTO customer (name) SELECT 'customer ' || n FROM generate_series(1, 500) n;
INSERT INTO bill SELECT n, n % 500 + 1, n * 1.5 FROM generate_series(1, 2000) n;
CREATE VIEW debtors AS SELECT name, sum(amount) FROM customer c JOIN bill b ON b.customer = c.id GROUP BY name;
"""


def only(name: str) -> list[str]:
    """Overrides that leave out all databases but one."""
    return ["-pgsql:*", f"pgsql:{name}"]


@pytest.mark.slow
@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; a journey of tklb itself does the same")
@pytest.mark.parametrize(("source", "target"), [("bookworm", "bookworm"), ("bookworm", "trixie"), ("trixie", "trixie")])
def test_all_of_a_server_comes_back(source: str, target: str, tmp_path: Path) -> None:
    binds = {**TREE_INSIDE, tmp_path: "/mnt/share"}
    with (
        database_clone(source, "postgresql", binds=binds) as a,
        database_clone(target, "postgresql", binds=binds, hostname="b") as b,
    ):
        fill(a)
        facts = checker.record(a)
        dumped = dump(a, "/mnt/share/dump")
        assert dumped["skipped"] == [["pgsql:closed", "it allows no connections"]]
        brought = load(b, "/mnt/share/dump", accounts=True)
        assert (brought["failed"], brought["skipped"], brought["notes"]) == (None, [], [])
        assert checker.compare(facts, checker.record(b)) == ["cluster: databases 'closed': missing"]
        assert not (b.root / PWNED).exists()


def test_time_limits_of_a_database_hold_for_nothing_of_ours() -> None:
    """Whoever begins a session waits longer than all of them allow, as on a busy machine."""
    with database_clone("trixie", "postgresql", binds=TREE_INSIDE) as machine:
        sql(machine, "CREATE DATABASE hasty")
        sql(machine, SHOP + SLOW_START, "hasty")
        kinds = ("statement", "lock", "transaction", "idle_session", "idle_in_transaction_session")
        sql(machine, "".join(f"ALTER DATABASE hasty SET {kind}_timeout = '1ms';" for kind in kinds))
        with pytest.raises(AssertionError, match="transaction timeout"):
            sql(machine, "SELECT 1", "hasty")
        dumped = dump(machine, "/root/hasty", overrides=only("hasty"))
        assert (dumped["skipped"], dumped["notes"]) == ([], [])
        brought = load(machine, "/root/hasty", "hasty")
        assert (brought["failed"], brought["skipped"], brought["notes"]) == (None, [], [])
        with pytest.raises(AssertionError, match="transaction timeout"):
            sql(machine, "SELECT 1", "hasty")


SLOW_START = """
CREATE FUNCTION wait() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.05); END';
CREATE EVENT TRIGGER slow ON login EXECUTE FUNCTION wait();
"""


def test_a_dump_loads_by_hand(box: Appliance, shop: str) -> None:
    odd = 'CREATE TABLE "line\nbreak" (a text); INSERT INTO "line\nbreak" VALUES (E\'x\\ny\');'
    sql(box, odd + "SELECT lo_from_bytea(77, 'large')", shop)
    dump(box, "/root/hand", overrides=only(shop))
    (folder,) = (path.name for path in (box.root / "root/hand").iterdir() if path.is_dir())
    box.run(["cp", "-r", f"/root/hand/{folder}", "/tmp/hand"])
    box.run(["chown", "-R", "postgres:", "/tmp/hand"])
    sql(box, "CREATE DATABASE by_hand TEMPLATE template0")
    box.run(["runuser", "-u", "postgres", "--", "psql", "-X", "-f", "load.sql", "by_hand"], cwd="/tmp/hand")
    question = "SELECT (SELECT sum(sum) FROM debtors), (TABLE \"line\nbreak\"), lo_get(77), nextval('customer_id_seq')"
    assert sql(box, question, "by_hand") == sql(box, question, shop) != ""


def test_a_failed_load_leaves_the_old_database(box: Appliance, shop: str) -> None:
    dump(box, "/root/failing", overrides=only(shop))
    rows = next((box.root / "root/failing").glob("*/rows/public.bill"))
    good = rows.read_bytes()
    sql(box, "DELETE FROM bill; DELETE FROM customer WHERE id > 5", shop)
    for content, reason in (
        (good + b"9999\t1\t1.0\n", "the server took 2001, the dump has 2000"),
        (good.replace(b"\n2\t", b"\n2\t2\t", 1), "public.bill"),
        (good[:-20], "public.bill"),
    ):
        rows.write_bytes(content)
        failed = load(box, "/root/failing", shop)["failed"]
        assert f"pgsql:{shop}" in failed
        assert reason in failed
        assert leftovers(box) == ""
        assert sql(box, "SELECT count(*) FROM customer", shop) == "5\n"


def test_a_client_that_connects_again_and_again_does_not_hold_up_the_swap(box: Appliance, shop: str) -> None:
    dump(box, "/root/busy", overrides=only(shop))
    again = f"while :; do psql -X -q -d '{shop}' -c 'SELECT pg_sleep(0.05)'; done"
    clients = [box.popen(["runuser", "-u", "postgres", "--", "sh", "-c", again + " 2>/dev/null >&2"]) for _ in range(3)]
    try:
        assert load(box, "/root/busy", shop)["failed"] is None
    finally:
        for client in clients:
            client.kill()
            client.wait()


def test_a_load_goes_on_where_the_session_of_a_killed_one_still_drops_what_it_left(box: Appliance, shop: str) -> None:
    dump(box, "/root/left", overrides=only(shop))
    left = "tklb_aside_0123456789abcdef"
    sql(box, f"CREATE DATABASE {left}")
    client = [*PSQL, "-c"]
    hold = f"COMMENT ON DATABASE {left} IS ''; SELECT pg_sleep(100)"  # one transaction, which has the database locked
    dropping = "SELECT count(*) = {} FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '^DROP DATABASE'"
    with (
        ThreadPoolExecutor(1) as pool,
        box.popen([*client, hold], stdout=DEVNULL, stderr=DEVNULL) as holder,
    ):
        wait_for(box, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        with box.popen([*client, f"DROP DATABASE {left}"]) as dropper:
            wait_for(box, dropping.format(1))
            loading = pool.submit(load, box, "/root/left", shop, lock_seconds=60)
            wait_for(box, dropping.format(2))
            sql(box, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            brought = loading.result()
        holder.wait(60)
    assert dropper.returncode == 0
    assert (brought["failed"], brought["skipped"], brought["notes"]) == (None, [], [])
    assert leftovers(box) == ""


def wait_for(box: Appliance, question: str, database: str = "postgres") -> None:
    call(
        box,
        """
        import subprocess, time
        deadline = time.monotonic() + 60
        while subprocess.run(values["psql"], input=values["question"], capture_output=True, text=True).stdout != "t\\n":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        """,
        psql=[*PSQL, "-d", database],
        question=question,
    )


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; test_database.py does the same for every engine")
def test_single_tables_come_into_a_database_that_stays(box: Appliance, shop: str) -> None:
    dump(box, "/root/single", overrides=only(shop))
    sql(box, "CREATE TABLE own (a int); INSERT INTO own VALUES (1); DROP TABLE bill CASCADE", shop)
    sql(box, "UPDATE customer SET name = 'x'; DELETE FROM customer WHERE id > 400", shop)
    brought = load(box, "/root/single", shop, tables=["public.customer", "public.bill"])
    assert (brought["failed"], brought["notes"]) == (None, [])
    query = "SELECT (SELECT count(*) FROM bill), (SELECT count(*) FROM customer WHERE name <> 'x'), (SELECT a FROM own)"
    assert sql(box, query, shop) == "2000|500|1\n"
    with pytest.raises(AssertionError, match="foreign key"):
        sql(box, "INSERT INTO bill VALUES (9999, 9999, 1)", shop)
    assert leftovers(box) == ""


def test_a_single_table_with_other_columns_is_refused(box: Appliance, shop: str) -> None:
    dump(box, "/root/refused", overrides=only(shop))
    sql(box, "ALTER TABLE bill ADD paid bool; DELETE FROM bill", shop)
    failed = load(box, "/root/refused", shop, tables=["public.bill", "public.customer"])["failed"]
    assert "public.bill" in failed
    assert "--rename-database" in failed
    assert sql(box, "SELECT count(*) FROM bill", shop) == "0\n"


def test_rows_that_lose_what_they_point_to_are_told(box: Appliance, shop: str) -> None:
    dump(box, "/root/orphans", overrides=only(shop))
    sql(box, "INSERT INTO customer VALUES (600, 'new'); INSERT INTO bill VALUES (5000, 600, 1)", shop)
    (note,) = load(box, "/root/orphans", shop, tables=["public.customer"])["notes"]
    assert "1 rows of public.bill miss their rows in public.customer" in note


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; test_database.py does the same for every engine")
def test_a_locked_table_is_named_and_the_rest_is_taken(box: Appliance, shop: str) -> None:
    script = "BEGIN; LOCK TABLE customer IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600);"
    session = box.popen(["runuser", "-u", "postgres", "--", "psql", "-X", "-d", shop, "-c", script])
    try:
        wait_for(
            box,
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        )
        dumped = dump(box, "/root/locked", overrides=only(shop), lock_seconds=2)
    finally:
        session.kill()
        session.wait()
        sql(box, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    named = {item.rpartition("/")[2]: reason for item, reason in dumped["skipped"]}
    assert set(named) == {"public.customer", "public.customer_id_seq", "public.debtors"}
    assert "locked" in named["public.customer"]
    assert dumped["tables"][shop] == {"public.bill": 2000}
    brought = load(box, "/root/locked", shop)
    assert brought["failed"] is None
    assert any("customer" in reason for _, reason in brought["skipped"])
    assert sql(box, "SELECT count(*) FROM bill", shop) == "2000\n"


QUEUE = """DO $$ BEGIN
  WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = '%(table)s'::regclass AND pid <> pg_backend_pid()) LOOP
    PERFORM pg_sleep(0.01);
  END LOOP;
  LOCK TABLE %(table)s IN ACCESS EXCLUSIVE MODE;
END $$"""


def test_owner_who_queues_for_each_table_behind_the_dump_holds_it_up_only_once(box: Appliance) -> None:
    """Whoever wants a table next waits behind the owner, who waits for the dump: so the dump waits for itself."""
    sql(box, "CREATE DATABASE queued")
    tables = [f"t{number}" for number in range(16)]
    sql(box, "; ".join(f"CREATE TABLE {table} (a int)" for table in tables), "queued")
    command = ["runuser", "-u", "postgres", "--", "psql", "-X", "-q", "-d", "queued", "-c"]
    quiet = {"stderr": subprocess.DEVNULL}
    sessions = [box.popen([*command, QUEUE % {"table": table}], **quiet) for table in tables]
    try:
        wait_for(box, "SELECT count(*) = 16 FROM pg_stat_activity WHERE query LIKE 'DO %'")
        begin = time.monotonic()
        dumped = dump(box, "/root/queued", overrides=only("queued"), lock_seconds=4)
        seconds = time.monotonic() - begin
    finally:
        sql(box, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO %'")
        for session in sessions:
            session.kill()
            session.wait()
    assert any(item.startswith("pgsql:queued") for item, _ in dumped["skipped"])
    assert seconds < 30  # 16 waits would take more than a minute
    sql(box, "DROP DATABASE queued WITH (FORCE)")


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; test_database.py does the same for every engine")
def test_a_killed_load_is_brought_home_by_the_next(box: Appliance, shop: str) -> None:
    dump(box, "/root/killed", overrides=only(shop))
    sql(box, "DELETE FROM bill", shop)
    moments = ["CREATE DATABASE", "COPY", "ADD CONSTRAINT", 'RENAME TO "tklb', "COMMIT", "DROP DATABASE"]
    for moment in some(moments, 2, first=1):
        killed = call(
            box,
            textwrap.dedent(START)
            + textwrap.dedent("""
                import os, signal
                from tklb.databases.postgresql.connection import ServerConnection
                child = os.fork()
                if not child:
                    send = ServerConnection.send
                    def until(self, statements):
                        text = statements if isinstance(statements, bytes) else statements.encode()
                        send(self, statements)
                        if values["moment"].encode() in text:
                            time.sleep(values["seconds"])
                            os.kill(os.getpid(), signal.SIGKILL)
                    ServerConnection.send = until
                    dump = DumpFolder((Path("/root/killed"),))
                    (saved,) = read_server(dump).databases
                    server.load_database(dump, DatabaseLoad(saved, saved.name), nothing)
                    os._exit(0)
                answer = os.waitpid(child, 0)[1]
                """),
            moment=moment,
            seconds=0.1,
        )
        assert killed == 9, moment
        assert sql(box, "SELECT count(*) FROM customer", shop) == "500\n", moment
        assert load(box, "/root/killed", shop)["failed"] is None, moment
        assert leftovers(box) == "", moment
        assert sql(box, "SELECT count(*) FROM bill", shop) == "2000\n", moment


def test_an_interrupted_load_leaves_nothing_behind(box: Appliance, shop: str) -> None:
    dump(box, "/root/interrupted", overrides=only(shop))
    sql(box, "DELETE FROM bill", shop)
    for moment in some(("CREATE DATABASE", "COPY", "ADD CONSTRAINT", 'RENAME TO "tklb'), 2):
        answer = call(
            box,
            textwrap.dedent(START)
            + textwrap.dedent("""
                from tklb.databases.postgresql.connection import ServerConnection
                send, done = ServerConnection.send, []
                def until(self, statements):
                    text = statements if isinstance(statements, bytes) else statements.encode()
                    send(self, statements)
                    if values["moment"].encode() in text and not done:
                        done.append(1)
                        raise KeyboardInterrupt
                ServerConnection.send = until
                dump = DumpFolder((Path("/root/interrupted"),))
                (saved,) = read_server(dump).databases
                try:
                    server.load_database(dump, DatabaseLoad(saved, saved.name), nothing)
                    answer = "went through"
                except KeyboardInterrupt:
                    answer = "interrupted"
                """),
            moment=moment,
        )
        assert answer == "interrupted", moment
        assert leftovers(box) == "", moment
        assert sql(box, "SELECT count(*) FROM bill", shop) == "0\n", moment


def test_functions_that_rely_on_a_search_path_do_not_stop_a_load(box: Appliance, shop: str) -> None:
    sql(box, RISKY["unqualified"], shop)
    dump(box, "/root/unqualified", overrides=only(shop))
    brought = load(box, "/root/unqualified", shop)
    assert (brought["failed"], brought["skipped"]) == (None, [])
    assert sql(box, "SELECT string_agg(outer_one, '' ORDER BY 1) FROM app.m", shop) == "ab\n"


def test_a_database_with_subscriptions_gives_way(box: Appliance, shop: str) -> None:
    connection = "CONNECTION 'host=127.0.0.1 port=1' PUBLICATION theirs WITH (connect = false, slot_name = 'a_slot')"
    sql(box, f"CREATE SUBSCRIPTION theirs {connection}", shop)
    refusing = (
        "CREATE FUNCTION never() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$never$$; END'"
    )
    sql(box, refusing + "; CREATE EVENT TRIGGER never ON ddl_command_start EXECUTE FUNCTION never()", shop)
    dumped = dump(box, "/root/subscribed", overrides=only(shop))
    assert dumped["notes"] == [f"pgsql:{shop}: subscriptions (theirs): a restore leaves them disabled"]
    sql(box, "DELETE FROM bill", shop)
    assert load(box, "/root/subscribed", shop) == {"failed": None, "skipped": [], "notes": []}
    assert leftovers(box) == ""
    assert sql(box, "SELECT (SELECT count(*) FROM bill), subname FROM pg_subscription", shop) == "2000|theirs\n"
    sql(
        box,
        "ALTER EVENT TRIGGER never DISABLE; ALTER SUBSCRIPTION theirs SET (slot_name = NONE); DROP SUBSCRIPTION theirs",
        shop,
    )


def test_roles_that_are_not_here_are_made_and_told(box: Appliance, shop: str) -> None:
    sql(box, 'CREATE ROLE "some\'one"; ALTER TABLE bill OWNER TO "some\'one"', shop)
    dump(box, "/root/roles", overrides=only(shop))
    sql(box, f"DROP DATABASE {ident(shop)} WITH (FORCE)")
    sql(box, 'DROP ROLE "some\'one"')
    brought = load(box, "/root/roles", shop)
    assert (brought["failed"], brought["notes"]) == (None, [f"pgsql:{shop}: roles made without a login: some'one"])
    query = "SELECT rolname, rolcanlogin FROM pg_authid r JOIN pg_class c ON relowner = r.oid WHERE relname = 'bill'"
    assert sql(box, query, shop) == "some'one|f\n"


def test_no_hash_of_a_password_is_seen(box: Appliance) -> None:
    hashed = "md5" + "0123456789abcdef" * 2
    sql(box, f"CREATE ROLE secretive LOGIN PASSWORD '{hashed}'")
    sql(box, "ALTER SYSTEM SET log_statement = 'all'; SELECT pg_reload_conf();")
    log = "cat /var/log/postgresql/*.log"
    before = box.run(["sh", "-c", log]).stdout
    dump(box, "/root/secret", overrides=["-pgsql:*"])
    roles = json.loads((box.root / "root/secret/roles.json").read_text())
    assert hashed in [role["password"] for role in roles["roles"]]
    sql(box, "DROP ROLE secretive")
    load(box, "/root/secret", accounts=True)
    sql(box, "ALTER SYSTEM RESET log_statement; SELECT pg_reload_conf();")
    assert sql(box, "SELECT rolpassword FROM pg_authid WHERE rolname = 'secretive'") == f"{hashed}\n"
    assert hashed not in box.run(["sh", "-c", log]).stdout[len(before) :]


def test_bare_databases_count_only_with_something_in_them(box: Appliance) -> None:
    listed = textwrap.dedent(START) + "answer = [one.name for one in server.list_databases()]"
    assert not {"postgres", "template1", "template0"} & set(call(box, listed))
    sql(box, "CREATE SCHEMA mine", "template1")
    assert "template1" in call(box, listed)
    sql(box, "DROP SCHEMA mine", "template1")
    assert "template1" not in call(box, listed)


def test_a_service_names_the_server(box: Appliance, shop: str) -> None:
    service = "[ours]\nhost=127.0.0.1\ndbname=postgres\nuser=keeper\npassword=pass\n"
    (box.root / "root/.pg_service.conf").write_text(service)
    sql(box, "CREATE ROLE keeper SUPERUSER LOGIN PASSWORD 'pass'")
    source = textwrap.dedent(START).replace('pgsql_service=""', 'pgsql_service="ours"') + textwrap.dedent(DUMP)
    dumped = call(box, source, folder="/root/service", overrides=only(shop))
    sql(box, "DROP ROLE keeper")
    assert dumped["skipped"] == []
    assert dumped["tables"][shop] == {"public.bill": 2000, "public.customer": 500}


def test_a_missing_locale_is_told_and_the_database_comes(box: Appliance, shop: str) -> None:
    dump(box, "/root/locale", overrides=only(shop))
    file = next((box.root / "root/locale").glob("*/database.json"))
    file.write_text(file.read_text().replace('"C.UTF-8"', '"xx_XX.UTF-8"'))
    brought = load(box, "/root/locale", shop)
    assert brought["failed"] is None
    assert "xx_XX.UTF-8" in brought["notes"][0]
    assert sql(box, "SELECT count(*) FROM bill", shop) == "2000\n"


HASH = "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'"


def test_administrator_gets_its_saved_password_only_where_it_has_none(box: Appliance) -> None:
    sql(box, "ALTER ROLE postgres PASSWORD 'saved'")
    saved = sql(box, HASH)
    dump(box, "/root/keeper", overrides=["-pgsql:*"])
    sql(box, "ALTER ROLE postgres PASSWORD 'own'")
    own = sql(box, HASH)
    (note,) = load(box, "/root/keeper", accounts=True)["notes"]
    assert note == "pgsql:role postgres: it keeps its own password, not that of the snapshot"
    assert sql(box, HASH) == own
    sql(box, "ALTER ROLE postgres PASSWORD NULL")
    assert load(box, "/root/keeper", accounts=True)["notes"] == []
    assert sql(box, HASH) == saved
    sql(box, "ALTER ROLE postgres PASSWORD NULL")


def test_logins_that_ask_the_administrator_for_a_password_are_good_only_with_one(box: Appliance) -> None:
    place = box.root / "etc/postgresql/15/main/pg_hba.conf"
    before = place.read_text()
    source = textwrap.dedent(START) + textwrap.dedent("""
        from pathlib import Path
        place = Path("/etc/postgresql/15/main/pg_hba.conf")
        place.write_text("local all all scram-sha-256\\n")
        answer = server.restart((), lambda _: None)
    """)
    refused = call(box, source, timeout=100)
    place.write_text(before)
    box.run(["pg_ctlcluster", "15", "main", "reload"])
    sql(box, "ALTER ROLE postgres PASSWORD 'secret'")
    taken = call(box, source, timeout=100)
    place.write_text(before)
    box.run(["pg_ctlcluster", "15", "main", "reload"])
    sql(box, "ALTER ROLE postgres PASSWORD NULL")
    assert "no password supplied" in refused
    assert taken == ""
