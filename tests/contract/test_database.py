"""What tklb.databases.interface promises, held against the real servers of every engine.

Takes the lab's machines; touches clones only. Knows an engine by its adapter in database_engines.
"""

from __future__ import annotations

import hashlib
import itertools
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.database_engines import ENGINES, Engine, Session, instead_of, session, sql
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE, call
from tests.lab.soak import SOAK, some

pytestmark = pytest.mark.lab

BOOKWORM = [pytest.param((engine, "bookworm"), id=f"{engine.package}-bookworm") for engine in ENGINES]
TRIXIE = [pytest.param((engine, "trixie"), id=f"{engine.package}-trixie") for engine in ENGINES]
every_release_in_a_soak = pytest.mark.parametrize("place", [*BOOKWORM, *TRIXIE] if SOAK else BOOKWORM, indirect=True)
# MariaDB of trixie is dumped and loaded in test_database_mysql_loads.py
every_release = pytest.mark.parametrize("place", [*BOOKWORM, *(TRIXIE if SOAK else TRIXIE[1:])], indirect=True)

START = """
    import os, select, signal, subprocess, time
    from pathlib import Path
    from tklb.config.schema import DatabaseConfig
    from tklb.databases.filter import build_filter
    from tklb.diff.rules import parse_override
    from tklb.errors import DatabaseFailed
    from tklb.model.databases import DatabaseLoad, SavedDatabase
    from tklb.databases.dump_format import DumpFolder, read_server, write_server
    from tklb.databases.servers import find_server
    engine = values["engine"]
    server = find_server(engine, DatabaseConfig(lock_seconds=values.get("lock_seconds", 5)))
    assert server.engine == engine
    nothing = lambda *how_far: None
    def report(result):
        skipped = [[one.item.decode("utf-8", "surrogateescape"), one.reason] for one in result.skipped]
        return {"skipped": skipped, "notes": list(result.notes)}
    def dump_into(name, progress=nothing):
        folder = Path(name); folder.mkdir(mode=0o700)
        scope = build_filter(engine, [parse_override(word) for word in values.get("overrides", [])])
        dumped = server.dump_databases(scope, folder, progress)
        write_server(folder, dumped.server)
        tables = {d.name: {t.name: [t.rows, t.files] for t in d.tables} for d in dumped.server.databases}
        folders = {d.name: d.folder for d in dumped.server.databases}
        return {**report(dumped), "tables": tables, "folders": folders}
    def load_from(name):
        dump = DumpFolder((Path(name),))
        answer = {"failed": None, "skipped": [], "notes": []}
        try:
            if values.get("accounts"):
                answer.update(report(server.load_accounts(dump, nothing)))
            for one in read_server(dump).databases:
                if values["names"] is None or one.name in values["names"]:
                    tables, into = values.get("tables"), values.get("into") or one.name
                    tables = None if tables is None else tuple(tables)
                    wanted = DatabaseLoad(one, into, tables, tuple(values.get("kept", ())))
                    result = report(server.load_database(dump, wanted, nothing))
                    answer["skipped"] += result["skipped"]; answer["notes"] += result["notes"]
        except DatabaseFailed as exc:
            answer["failed"] = str(exc)
        return answer
"""
CACHED = 8_000


@dataclass(frozen=True, slots=True)
class Place:
    """A server of one engine in a box, and what tklb does with it."""

    engine: Engine
    box: Appliance

    def sql(self, *statements: str, database: str = "") -> list[str]:
        return sql(self.engine, self.box, *statements, database=database)

    def one(self, question: str, database: str = "") -> str:
        (line,) = self.sql(question, database=database)
        return line

    def run(self, source: str, **values: object) -> Any:
        text = textwrap.dedent(START) + textwrap.dedent(source)
        return call(self.box, text, engine=self.engine.word, timeout=600, **values)

    def dump(self, folder: str, *names: str, overrides: tuple[str, ...] = (), **values: object) -> Any:
        """Dump the databases named, or all."""
        self.box.run(["rm", "-rf", folder])
        word = self.engine.word
        only = (f"-{word}:*", *(f"{word}:{name}" for name in names)) if names else ()
        return self.run('answer = dump_into(values["folder"])', folder=folder, overrides=[*only, *overrides], **values)

    def load(self, folder: str, *names: str, **values: object) -> Any:
        return self.run('answer = load_from(values["folder"])', folder=folder, names=names or None, **values)

    def listed(self) -> list[str]:
        return list(self.run("answer = [one.name for one in server.list_databases()]"))

    def databases(self) -> set[str]:
        """All of the server, by its own tools."""
        return {bytes.fromhex(digits).decode() for digits in self.sql(self.engine.all_databases)}

    def contents(self, database: str) -> list[str]:
        """A database as the stock tool dumps it: in whatever order its lines come."""
        return sorted(self.engine.stock_dump(self.box, database))

    def item(self, database: str, table: str = "") -> str:
        return f"{self.engine.word}:{database}" + (f"/{self.engine.table(table)}" if table else "")

    def path(self, folder: str) -> Path:
        return self.box.root / folder.lstrip("/")


def items(answer: Any) -> set[str]:
    return {item for item, _ in answer["skipped"]}


def messages(answer: Any) -> str:
    """All that a dump or load says to people."""
    return "\n".join([*(f"{item}: {reason}" for item, reason in answer["skipped"]), *answer["notes"]])


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module", params=BOOKWORM)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    engine, release = request.param
    with database_clone(release, engine.package, binds=TREE_INSIDE) as box:
        yield Place(engine, box)


def make_shop(place: Place, name: str) -> None:
    engine = place.engine
    place.sql(f"CREATE DATABASE {engine.ident(name)}")
    place.sql(
        f"CREATE TABLE customers (id {engine.counted} PRIMARY KEY, name VARCHAR(100))",
        "CREATE TABLE orders (id INT PRIMARY KEY, customer INT NOT NULL, note TEXT,"
        " CONSTRAINT bought FOREIGN KEY (customer) REFERENCES customers (id))",
        "CREATE TABLE cache (k INT PRIMARY KEY, v TEXT)",
        "CREATE TABLE empty_one (a INT)",
        "CREATE SEQUENCE numbers START WITH 100",
        "CREATE INDEX of_customer ON orders (customer, id)",
        "CREATE VIEW buyers AS SELECT customer, COUNT(*) AS many FROM orders GROUP BY customer",
        f"INSERT INTO customers (name) SELECT CONCAT('customer ', n) FROM {engine.numbers(500)}",
        f"INSERT INTO orders SELECT n, 1 + n % 500, CONCAT('tab\t, line\n, '' and ', n) FROM {engine.numbers(2000)}",
        "INSERT INTO orders VALUES (2001, 1, NULL), (2002, 1, ''), (2003, 1, '\\N'), (2004, 1, '\\.')",
        f"INSERT INTO cache SELECT n, REPEAT('x', 100) FROM {engine.numbers(CACHED)}",
        database=name,
    )


ROWS = {"customers": 500, "orders": 2004, "cache": CACHED, "empty_one": 0}
NUMBERS = itertools.count()


@pytest.fixture
def shop(place: Place) -> str:
    """A fresh database with all kinds of things, and all others gone."""
    name = f"shop {next(NUMBERS)}"
    place.sql(*(place.engine.drop(other) for other in place.databases() - place.engine.system))
    make_shop(place, name)
    return name


def counts(place: Place, database: str) -> dict[str, int]:
    return {table: int(place.one(f"SELECT COUNT(*) FROM {table}", database)) for table in ROWS}


# ---------------------------------------------------------------- what there is


@every_release_in_a_soak
def test_list_has_what_there_is_now(place: Place, shop: str) -> None:
    assert place.listed() == [shop]
    place.sql(f"CREATE DATABASE {place.engine.ident('zz')}", f"CREATE DATABASE {place.engine.ident('Aa')}")
    assert place.listed() == ["Aa", shop, "zz"]
    place.sql(place.engine.drop("Aa"))
    assert place.listed() == [shop, "zz"]


def test_offer_meets_what_its_own_dumps_need(place: Place, shop: str) -> None:
    place.dump("/root/dump", shop)
    answer = place.run(
        """
        offer = server.read_features()
        needs = [need for one in read_server(DumpFolder((Path("/root/dump"),))).databases for need in one.needs]
        answer = [offer.version, offer.number, [one.name for one in offer.databases],
                  [need for need in needs if need not in offer.features]]
        """
    )
    assert ".".join(map(str, answer[1])) in answer[0]
    assert answer[2:] == [[shop], []]


def test_stopped_server_fails_every_question_and_starts_on_demand(place: Place, shop: str) -> None:
    place.dump("/root/dump", shop)
    place.box.stop(place.engine.package)
    failed = place.run(
        """
        dump = DumpFolder((Path("/root/dump"),))
        (saved,) = read_server(dump).databases
        Path("/root/unreached").mkdir(mode=0o700)
        calls = {
            "databases": lambda: server.list_databases(),
            "offer": lambda: server.read_features(),
            "rows": lambda: server.find_rows([(saved.name, "cache")]),
            "dump": lambda: server.dump_databases(build_filter(engine, []), Path("/root/unreached"), nothing),
            "load_accounts": lambda: server.load_accounts(dump, nothing),
            "load": lambda: server.load_database(dump, DatabaseLoad(saved, saved.name), nothing),
        }
        answer = {}
        for name, ask in calls.items():
            try:
                answer[name] = str(ask())
            except DatabaseFailed as exc:
                answer[name] = exc.code
        server.start()
        answer["then"] = [one.name for one in server.list_databases()]
        """
    )
    assert failed.pop("then") == [shop]
    assert failed == dict.fromkeys(("databases", "offer", "rows", "dump", "load_accounts", "load"), 50)


def test_tables_here_are_known_with_and_without_rows(place: Place, shop: str) -> None:
    tables = [place.engine.table(name) for name in ("cache", "empty_one", "locked", "buyers", "nosuch")]
    place.sql("CREATE TABLE locked (a INT)", database=shop)
    with session(place.engine, place.box, shop, place.engine.lock.replace("cache", "locked")):
        answer = place.run(
            """
            found = server.find_rows([tuple(each) for each in values["asked"]])
            answer = sorted([*names, has] for names, has in found.items())
            """,
            asked=[*([shop, table] for table in tables), ["nosuch", tables[0]]],
        )
    expected = zip(tables, (True, False, True, True), strict=False)  # what nobody can read now may have rows
    assert answer == sorted([shop, table, has] for table, has in expected)


# ---------------------------------------------------------------- a dump


@every_release
def test_dump_counts_all_rows_and_loads_as_it_was(place: Place, shop: str) -> None:
    before = place.contents(shop)
    answer = place.dump("/root/dump", shop)
    assert (answer["skipped"], answer["tables"].keys()) == ([], {shop})
    found = {name: rows for name, (rows, _) in answer["tables"][shop].items()}
    assert found == {place.engine.table(name): rows for name, rows in ROWS.items()}
    assert (load := place.load("/root/dump", shop, into="other"))["failed"] is None
    assert load["skipped"] == []
    assert place.contents("other") == [line.replace(shop, "other") for line in before]
    assert place.contents(shop) == before


def test_dump_is_private(place: Place, shop: str) -> None:
    place.dump("/root/dump", shop)
    folder = place.path("/root/dump")
    modes = {(path.is_dir(), oct(path.stat().st_mode & 0o7777)) for path in folder.rglob("*")}
    assert modes == {(True, "0o700"), (False, "0o600")}
    assert {path.stat().st_uid for path in folder.rglob("*")} == {0}


def test_table_left_out_keeps_its_definition(place: Place, shop: str) -> None:
    answer = place.dump("/root/dump", shop, overrides=(f"-{place.engine.word}:{shop}/cache",))
    assert answer["skipped"] == []
    table = place.engine.table("cache")
    assert answer["tables"][shop].pop(table) == [None, []]
    assert all(rows is not None for rows, _ in answer["tables"][shop].values())
    assert not any(
        path.is_file() and b"xxxxxxxxxx" in path.read_bytes() for path in place.path("/root/dump").rglob("*")
    )
    assert place.load("/root/dump", shop, into="other")["failed"] is None
    assert counts(place, "other") == ROWS | {"cache": 0}


@every_release_in_a_soak
def test_unchanged_server_gives_the_same_bytes_and_one_row_changes_few_files(place: Place, shop: str) -> None:
    first = place.dump("/root/one", shop)
    place.dump("/root/two", shop)
    one = tree(place.path("/root/one"))
    assert len(one) > len(ROWS)
    assert tree(place.path("/root/two")) == one
    place.sql("UPDATE orders SET note = 'another' WHERE id = 1000", database=shop)
    second = place.dump("/root/two", shop)
    two = tree(place.path("/root/two"))
    changed = {name for name in one.keys() | two.keys() if one.get(name) != two.get(name)}
    table = place.engine.table("orders")
    rows = {
        f"{answer['folders'][shop]}/{name}" for answer in (first, second) for name in answer["tables"][shop][table][1]
    }
    assert changed & rows
    assert changed - rows <= {"server.json"}


HOSTILE = "h\n\\! touch /tmp/pwned\nsystem touch /tmp/pwned\n\\copy x to program 'touch /tmp/pwned'\n--"
ODD = (
    *("a b", "a/b", "a\\b", "a'b", 'a"b', "a`b", "a\nb", "a\tb", "a;b", "a.b", ".", "..", ".hidden", "-leading"),
    *("--all-databases", "*", "?", "[a-z]", "{a,b}", "~", "a*b", "%", "_", "a%b", "a%2Fb", "Case", "case", "CASE"),
    *(
        "null",
        "NULL",
        "select",
        "1",
        "1e3",
        "hé",
        "he\u0301",
        "日本語",
        "\u202egnp.exe",
        "strasse",
        "straße",
        "#",
        "-- c",
    ),
    *("$(touch /tmp/pwned)", "`touch /tmp/pwned`", "'; DROP DATABASE x; --", "/* c */", "\x01", "\\N", "a=b", "a:b"),
    *("server.json", "roles.json", "accounts.json", "host=x dbname=y", "postgresql://x", "x" * 63, HOSTILE[:60]),
)


@pytest.mark.slow
def test_databases_with_odd_names_all_come_back(place: Place, shop: str) -> None:
    ident = place.engine.ident
    assert len(set(ODD)) >= 50
    # each database costs PostgreSQL a second of processor time, and MariaDB next to nothing
    odd = some(ODD, 11 if place.engine.word == "pgsql" else 3)
    place.sql(*(f"CREATE DATABASE {ident(name)}" for name in odd))
    for number, name in enumerate(odd):
        place.sql(
            f"CREATE TABLE {ident(name)} ({ident(name)} INT, t TEXT)",
            f"INSERT INTO {ident(name)} VALUES ({number}, 'row')",
            database=name,
        )
    assert place.listed() == sorted([*odd, shop])
    answer = place.dump("/root/dump")
    assert answer["skipped"] == []
    assert answer["tables"].keys() == {*odd, shop}
    assert len({folder.lower() for folder in answer["folders"].values()}) >= len(odd) - 2
    place.sql(*(place.engine.drop(name) for name in odd))
    loaded = place.load("/root/dump", *odd)
    assert (loaded["failed"], loaded["skipped"]) == (None, [])
    for number, name in enumerate(odd):
        assert place.sql(f"SELECT {ident(name)} FROM {ident(name)}", database=name) == [str(number)], name
    assert not place.path("/tmp/pwned").exists()


WRONG_BALANCES = """
SELECT COUNT(*) FROM accounts LEFT JOIN (
    SELECT id, SUM(amount) AS moved FROM (
        SELECT giver AS id, -amount AS amount FROM moves UNION ALL SELECT taker, amount FROM moves
    ) AS halves GROUP BY id
) AS sums ON sums.id = accounts.id WHERE 1000 + COALESCE(moved, 0) <> money
"""


def test_rows_are_of_one_moment_while_others_write(place: Place, shop: str) -> None:
    engine = place.engine
    place.sql(
        "CREATE TABLE accounts (id INT PRIMARY KEY, money INT)",
        f"CREATE TABLE moves (id {engine.counted} PRIMARY KEY, giver INT, taker INT, amount INT)",
        f"INSERT INTO accounts SELECT n, 1000 FROM {engine.numbers(2000)}",
        database=shop,
    )
    *prepared, endless = engine.transfers
    moved = []
    with session(engine, place.box, shop, *prepared, last=endless):
        for number in range(2):
            moved.append(int(place.one("SELECT COUNT(*) FROM moves", shop)))
            answer = place.dump(f"/root/dump{number}", shop)
            assert answer["skipped"] == []
            moved.append(int(place.one("SELECT COUNT(*) FROM moves", shop)))
    for number in range(2):
        assert place.load(f"/root/dump{number}", shop, into="other")["failed"] is None
        assert place.one("SELECT SUM(money) FROM accounts", "other") == "2000000"
        assert place.one(WRONG_BALANCES, "other") == "0"
        before, after = moved[2 * number : 2 * number + 2]
        assert before < after
        assert before <= int(place.one("SELECT COUNT(*) FROM moves", "other")) <= after


def test_locked_table_is_named_and_the_rest_is_whole(place: Place, shop: str) -> None:
    with session(place.engine, place.box, shop, place.engine.lock):
        answer = place.dump("/root/dump", shop, lock_seconds=2)
    assert items(answer) == {place.item(shop, "cache")}
    taken = {name: rows for name, (rows, _) in answer["tables"][shop].items()}
    assert taken.pop(place.engine.table("cache"), None) is None
    assert taken == {place.engine.table(name): rows for name, rows in ROWS.items() if name != "cache"}
    assert place.load("/root/dump", shop, into="other")["failed"] is None
    assert place.one("SELECT COUNT(*) FROM orders", "other") == "2004"


DROP = """
    dropping = []
    def drop(*how_far):
        if not dropping:
            how = {"stdin": subprocess.PIPE, "stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
            dropping.append(subprocess.Popen(values["client"], env={**os.environ, **values["environment"]}, **how))
            dropping[0].stdin.write(values["drop"].encode())
            dropping[0].stdin.close()
            if values["when"] == "before it goes on":  # if its own sessions let it: else it ends after the dump
                deadline = time.monotonic() + 2
                while dropping[0].poll() is None and time.monotonic() < deadline:
                    time.sleep(0.02)
    if values["when"] == "with the dump":
        drop()
    answer = dump_into("/root/dump", drop)
    answer["dropped"] = dropping[0].wait(60)
"""


@pytest.mark.parametrize("when", ["with the dump", "at its first sign", "before it goes on"])
def test_database_dropped_meanwhile_is_whole_or_named(place: Place, shop: str, when: str) -> None:
    make_shop(place, "gone")
    place.box.run(["rm", "-rf", "/root/dump"])
    command, environment = place.engine.in_database("")
    drop = place.engine.script(place.engine.drop("gone"))
    answer = place.run(DROP, client=command, environment=environment, drop=drop, when=when)
    assert answer["dropped"] == 0
    assert "gone" not in place.databases()
    found = {name: rows for name, (rows, _) in answer["tables"][shop].items()}
    assert found == {place.engine.table(name): rows for name, rows in ROWS.items()}
    folders = {path.name for path in place.path("/root/dump").iterdir() if path.is_dir()}
    assert folders == set(answer["folders"].values())
    about = {item for item in items(answer) if item.partition("/")[0] == place.item("gone")}
    if "gone" not in answer["tables"]:
        # It may have been gone before anybody asked, which is no loss; else it is named.
        assert about or when == "with the dump"
    elif not about:
        assert place.load("/root/dump", "gone")["failed"] is None
        assert counts(place, "gone") == ROWS


CUTS = {
    "nothing": ("exit 0",),
    "killed": ("kill -9 $$",),
    "half": tuple(
        f'exec > >(stdbuf -o0 head -c {size})\n"$REAL" "$@"\nexit 0' for size in some((1500, 100_000, 400_000), 2)
    ),
    "half and killed": ('exec > >(stdbuf -o0 head -c 100000)\n"$REAL" "$@"\nkill -9 $$',),
}


@pytest.mark.parametrize("cut", some(CUTS, 2))  # those that end with status 0
def test_what_a_broken_tool_did_not_give_is_named(place: Place, shop: str, cut: str) -> None:
    whole = place.contents(shop)
    broken = 0
    for program in place.engine.programs(place.box):
        for script in CUTS[cut]:
            with instead_of(place.box, program, script):
                answer = place.dump("/root/dump", shop)
            broken += bool(answer["skipped"] or answer["notes"])
            if answer["skipped"] and shop not in answer["tables"]:
                assert place.item(shop) in items(answer)
                continue
            for name, rows in ROWS.items():
                taken, _ = answer["tables"][shop].get(place.engine.table(name), (None, ()))
                assert taken == rows or place.item(shop, name) in items(answer), (program, script, name)
            load = place.load("/root/dump", shop, into="other")
            assert load["failed"] is None, (program, script, load)
            if not answer["skipped"]:
                assert place.contents("other") == [line.replace(shop, "other") for line in whole], (program, script)
    assert broken


# ---------------------------------------------------------------- a load


@every_release_in_a_soak
def test_load_replaces_what_is_there_and_ends_its_sessions(place: Place, shop: str) -> None:
    before = place.contents(shop)
    place.dump("/root/dump", shop)
    place.sql(
        "DELETE FROM orders WHERE id < 1000",
        "CREATE TABLE later (a INT)",
        "DROP VIEW buyers",
        "CREATE VIEW later_view AS SELECT 1 AS one",
        database=shop,
    )
    with session(place.engine, place.box, shop, place.engine.begin, "DELETE FROM cache WHERE k < 10") as client:
        answer = place.load("/root/dump", shop)
        assert not is_alive(client)
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert any("1 sessions" in note and "ended" in note for note in answer["notes"])
    assert place.contents(shop) == before
    assert place.databases() - place.engine.system == {shop}


def is_alive(client: Session) -> bool:
    return client.ask("SELECT 'still here'") == "still here"


def test_rows_kept_stay_as_they_are_here(place: Place, shop: str) -> None:
    place.dump("/root/dump", shop)
    place.sql("DELETE FROM cache WHERE k > 7", "DELETE FROM orders", database=shop)
    answer = place.load("/root/dump", shop, kept=[place.engine.table("cache")])
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert counts(place, shop) == ROWS | {"cache": 7}


def test_rows_left_out_of_a_dump_stay_as_they_are_here(place: Place, shop: str) -> None:
    place.dump("/root/dump", shop, overrides=(f"-{place.engine.word}:{shop}/cache",))
    place.sql("DELETE FROM cache WHERE k > 7", "DELETE FROM orders", database=shop)
    answer = place.load("/root/dump", shop)
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert counts(place, shop) == ROWS | {"cache": 7}


def test_single_tables_come_and_the_others_stay(place: Place, shop: str) -> None:
    place.dump("/root/dump", shop)
    place.sql(
        "DELETE FROM orders WHERE id > 5",
        "UPDATE customers SET name = 'here'",
        "DELETE FROM cache",
        "CREATE TABLE own (a INT)",
        database=shop,
    )
    answer = place.load("/root/dump", shop, tables=[place.engine.table("orders")])
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert counts(place, shop) == ROWS | {"cache": 0}
    assert place.sql("SELECT DISTINCT name FROM customers", database=shop) == ["here"]
    assert place.one("SELECT COUNT(*) FROM own", shop) == "0"
    assert place.databases() - place.engine.system == {shop}
    with pytest.raises(AssertionError, match="foreign key"):
        place.sql("INSERT INTO orders VALUES (9999, 9999, '')", database=shop)


def test_dump_that_lacks_a_row_changes_nothing(place: Place, shop: str) -> None:
    taken = place.dump("/root/dump", shop)
    place.sql("INSERT INTO customers (name) VALUES ('new')", "DELETE FROM cache WHERE k > 7", database=shop)
    before, names = place.contents(shop), place.databases()
    for table in ("customers", "orders", "cache"):
        _, files = taken["tables"][shop][place.engine.table(table)]
        path = place.path("/root/dump") / taken["folders"][shop] / files[-1]
        good = path.read_bytes()
        path.write_bytes(b"".join(good.splitlines(keepends=True)[:-1]))
        failed = place.load("/root/dump", shop)["failed"]
        path.write_bytes(good)
        assert failed is not None
        assert place.item(shop) in failed
        assert table in failed
        assert place.contents(shop) == before
        assert place.databases() == names
    place.sql("INSERT INTO customers (name) VALUES ('newer')", database=shop)


def test_load_killed_at_any_instant_is_brought_home_by_repeating_it(place: Place, shop: str) -> None:
    place.dump("/root/dump", shop)
    before = place.contents(shop)
    source = """
        def in_child(seconds):
            started = time.monotonic()
            child = os.fork()
            if not child:
                os._exit(0 if load_from("/root/dump")["failed"] is None else 1)
            watch = os.pidfd_open(child)
            if not select.select([watch], [], [], seconds)[0]:
                os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1], time.monotonic() - started
    """
    killed = 0
    status, usual = place.run(source + "    answer = in_child(None)\n", names=[shop])
    assert status == 0
    shares = some((0.25, 0.5, 0.75, 0.95), 2)
    for share in shares:
        place.sql("DELETE FROM orders WHERE id > 3", database=shop)
        status, took = place.run(
            source + "    answer = in_child(values['seconds'])\n", names=[shop], seconds=usual * share
        )
        killed += status == 9
        assert status in (0, 9), share
        if status == 0:
            usual = took  # the machine has become less busy
        assert place.one("SELECT COUNT(*) FROM customers", shop) == "500", share
        assert place.one("SELECT COUNT(*) FROM orders", shop) in ("3", "2004"), share
        assert set(place.listed()) == {shop}, share
        assert place.load("/root/dump", shop)["failed"] is None, share
        assert place.contents(shop) == before, share
        assert place.databases() - place.engine.system == {shop}, share
    assert killed >= len(shares) // 2


PLANTED = (
    b"\\! touch /tmp/pwned\n\\copy x to program 'touch /tmp/pwned'\nsystem touch /tmp/pwned\n",
    b"\n;\nsystem touch /tmp/pwned\n\\! touch /tmp/pwned\n",
    b"\n;\nCOPY (SELECT 1) TO PROGRAM 'touch /tmp/pwned';\n",
    b"\n;\nDO $$ BEGIN EXECUTE $e$COPY (SELECT 1) TO PROGRAM 'touch /tmp/pwned'$e$; END $$;\n",
)


def test_nothing_of_a_hostile_dump_is_executed(place: Place) -> None:
    place.sql(f"CREATE DATABASE {place.engine.ident('small')}")
    place.sql(
        "CREATE TABLE t (a INT PRIMARY KEY, b TEXT)",
        "INSERT INTO t VALUES (1, 'one')",
        "CREATE VIEW v AS SELECT a FROM t",
        database="small",
    )
    taken = place.dump("/root/dump", "small")
    folder = place.path("/root/dump") / taken["folders"]["small"]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".json"]
    assert any("rows" in str(path) for path in files)
    assert any(path.suffix == ".sql" for path in files)
    inside = [f"{folder.name}/{path.relative_to(folder)}" for path in files]
    planted = [each.decode() for each in PLANTED]
    outcomes = place.run(
        """
        answer = []
        for name, planted, where in values["cases"]:
            path, planted = Path("/root/dump") / name, planted.encode()
            good = path.read_bytes()
            amid = good.replace(b";", b";\\n" + planted, 1)
            path.write_bytes({"before": planted + good, "after": good + planted, "amid": amid}[where])
            answer.append([name, load_from("/root/dump")["failed"], os.path.exists("/tmp/pwned")])
            path.write_bytes(good)
        """,
        # every eleventh has each file, each text and each place in turn
        cases=some(itertools.product(inside, planted, ("before", "after", "amid")), 11),
        names=["small"],
    )
    assert [name for name, _, is_pwned in outcomes if is_pwned] == []
    assert any(failed for _, failed, _ in outcomes)
    assert place.load("/root/dump", "small")["failed"] is None
    assert place.sql("SELECT * FROM v", database="small") == ["1"]


# ---------------------------------------------------------------- accounts and positions


@every_release_in_a_soak
def test_saved_accounts_win_and_others_stay(place: Place, shop: str) -> None:
    engine, box = place.engine, place.box
    for name in ("saved", "lost", "here"):
        place.sql(engine.drop_account(name))
    place.sql(engine.make_account("saved", "then"), engine.make_account("lost", "then"))
    place.dump("/root/dump", shop)
    place.sql(engine.change_password("saved", "now"), engine.drop_account("lost"), engine.make_account("here", "own"))
    before = place.sql(engine.administrator)
    place.sql(engine.change_administrator)
    changed = place.sql(engine.administrator)
    assert changed != before
    answer = place.load("/root/dump", "no database", accounts=True)
    after = place.sql(engine.administrator)
    place.sql(engine.reset_administrator)
    assert after == changed
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert engine.can_log_in(box, "saved", "then")
    assert not engine.can_log_in(box, "saved", "now")
    assert engine.can_log_in(box, "lost", "then")
    assert engine.can_log_in(box, "here", "own")
    place.sql(*(engine.drop_account(name) for name in ("saved", "lost", "here")))


def test_owner_that_is_not_here_is_named(place: Place, shop: str) -> None:
    engine = place.engine
    place.sql(engine.make_account("gone", "x"))
    place.sql(*engine.own, database=shop)
    place.dump("/root/dump", shop)
    place.sql(engine.drop(shop))
    place.sql(engine.drop_account("gone"))
    answer = place.load("/root/dump", shop)
    assert answer["failed"] is None
    assert "gone" in messages(answer)


def test_numbers_go_on_where_they_were(place: Place, shop: str) -> None:
    engine = place.engine
    given = [int(place.one(engine.next_number, shop)) for _ in range(3)]
    place.sql("INSERT INTO customers (name) VALUES ('a'), ('b')", "DELETE FROM customers WHERE id > 500", database=shop)
    place.dump("/root/dump", shop)
    assert place.load("/root/dump", shop, into="other")["failed"] is None
    insert, newest = "INSERT INTO customers (name) VALUES ('next')", "SELECT MAX(id) FROM customers"
    place.sql(insert, database=shop)
    place.sql(insert, database="other")
    assert int(place.one(newest, "other")) == int(place.one(newest, shop)) > 502
    assert int(place.one(engine.next_number, "other")) > max(given)
