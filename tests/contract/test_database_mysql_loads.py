"""Loads of MariaDB that could change rows, or that a setting of the server refuses: all comes as it was, or is named.

Takes the lab's machines; touches clones only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE

import pytest

from tests.contract.test_database_mysql import (
    LOAD,
    databases,
    dump,
    instead_of_the_dump_tool,
    items,
    load,
    run,
    sql,
    stock,
    wait_for,
)
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE
from tests.lab.soak import some

pytestmark = pytest.mark.lab

NASTY_ROWS = r"""
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00', check_constraint_checks = 0;
CREATE TABLE counted_bits (id INT AUTO_INCREMENT PRIMARY KEY, b BIT(8), v INT);
INSERT INTO counted_bits VALUES (0, b'101', 1), (3, NULL, 2), (-4, b'0', 3);
CREATE TABLE counted_blobs (x LONGBLOB, id BIGINT UNSIGNED AUTO_INCREMENT UNIQUE, v VARBINARY(9));
INSERT INTO counted_blobs VALUES ('', 0, X'00'), (NULL, 18446744073709551614, ''), (X'275C0A', 5, X'FF');
CREATE TABLE counted_choices (id SMALLINT AUTO_INCREMENT PRIMARY KEY, e ENUM ('', 'a'), s SET ('', 'b'));
INSERT INTO counted_choices VALUES (0, 0, 0), (1, 1, 1), (2, 'a', 'b');
CREATE TABLE counted_points (p POINT, id INT AUTO_INCREMENT, KEY (id));
INSERT INTO counted_points VALUES (POINT(0.1, -0.0), 0), (NULL, 7), (POINT(1, 2), 0);
CREATE TABLE counted (id INT AUTO_INCREMENT PRIMARY KEY, v INT); INSERT INTO counted VALUES (0, 1), (9, 2);
CREATE TABLE times (id INT PRIMARY KEY, t TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    n TIMESTAMP(6) NULL, d DATE, dt DATETIME(3), y YEAR, h TIME(6));
INSERT INTO times VALUES (1, 0, NULL, '0000-00-00', 0, 0, '-838:59:59.999999'),
    (2, '2024-03-31 01:30:00', '2024-10-27 00:30:00.000001', '2023-02-31', '2023-02-31 10:00:00.5', 1901, '00:00:00'),
    (3, '1970-01-01 00:00:01', '2038-01-19 03:14:07.999999', '9999-12-31', '0001-01-01', 2155, '838:59:59');
CREATE TABLE texts (c CHAR(5), v VARCHAR(9), l VARCHAR(9) CHARACTER SET latin1, u VARCHAR(9) CHARACTER SET ucs2,
    j JSON, e ENUM ('a', 'b'), b BINARY(4));
INSERT INTO texts VALUES ('a  ', 'a  ', _latin1 X'E4C3A4', '', '{"a": 1.0}', 0, X'0041'), (NULL, NULL, '', 'ä', NULL,
    NULL, ''),
    ('\\N', 'NULL', '\n\t\r\Z', '''"', '"x"', 'a', 'NULL'), ('', '\0', ',', '),(', '[]', 'b', '\0');
CREATE TABLE figures (id INT PRIMARY KEY, d DOUBLE, f FLOAT, n DECIMAL(65, 30), z INT(9) ZEROFILL);
INSERT INTO figures VALUES (1, -0e0, 16777217, 0.1, 7), (2, 4.9e-324, 0.1, -1e-30, 0), (3, 1.7976931348623157e308,
    3.4e38,
    99999999999999999999999999999999999.999999999999999999999999999999, 999999999), (4, 0.1 + 0.2, -0e0, NULL, NULL);
CREATE TABLE kinds (u UUID, i INET6, h INT INVISIBLE, c TEXT COMPRESSED, g INT AS (h + 1) STORED,
    v INT AS (h * 2) VIRTUAL,
    CHECK (h < 5));
INSERT INTO kinds (u, i, h, c) VALUES (UUID(), '::1', 9, REPEAT('x', 300)), (NULL, '::ffff:1.2.3.4', NULL, '');
CREATE TABLE versioned (id INT AUTO_INCREMENT PRIMARY KEY, b BLOB) WITH SYSTEM VERSIONING;
INSERT INTO versioned VALUES (0, 'x');
CREATE TABLE heap (v INT, t VARCHAR(20)); INSERT INTO heap VALUES (3, 'c'), (1, 'a'), (3, 'c'), (2, NULL);
CREATE TABLE scattered (k INT NULL UNIQUE, t VARCHAR(9));
INSERT INTO scattered VALUES (NULL, 'b'), (2, 'x'), (NULL, 'a'), (1, 'y');
CREATE TABLE `Alike` (v INT); CREATE TABLE alike (v INT); INSERT INTO `Alike` VALUES (1); INSERT INTO alike VALUES (2);
CREATE TABLE `-- odd ``name` (`a``b` INT PRIMARY KEY, `%` INT); INSERT INTO `-- odd ``name` VALUES (1, 2);
CREATE TABLE words (w VARCHAR(20)) ENGINE = MyISAM;
INSERT INTO words VALUES ('b'), ('a'); DELETE FROM words WHERE w = 'b';
INSERT INTO words VALUES ('c');
"""


@pytest.fixture(scope="module", params=some(["bookworm", "trixie"], 2, first=1))
def box(request: pytest.FixtureRequest) -> Iterator[Appliance]:
    with database_clone(request.param, "mariadb", hostname="b", binds=TREE_INSIDE) as machine:
        yield machine


@pytest.fixture
def rows(box: Appliance) -> Appliance:
    """A database `rows`, and nothing else."""
    for name in databases(box) - {"information_schema", "performance_schema", "mysql", "sys"}:
        sql(box, f"DROP DATABASE `{name}`")
    sql(box, f"CREATE DATABASE `rows` CHARACTER SET utf8mb4; USE `rows`; {NASTY_ROWS}")
    return box


def list_lines(box: Appliance) -> list[str]:
    """The database as the stock tool writes it; rows without a key have no order."""
    return sorted(line.rstrip(",;") for line in stock(box, "rows").split("\n"))


# ---------------------------------------------------------------- rows come as they were


def test_rows_come_as_they_were(rows: Appliance) -> None:
    before = list_lines(rows)
    dump(rows, "/tmp/d")
    sql(rows, "DROP DATABASE `rows`")
    answer = load(rows, "/tmp/d")
    assert (answer["failed"], items(answer)) == (None, set())
    assert list_lines(rows) == before
    assert sql(rows, "SELECT id FROM `rows`.counted_bits ORDER BY id").split() == ["-4", "0", "3"]


CHANGE = """
for word; do case $word in tklb_scratch_*) mariadb -uroot "$word" -e "{statement}";; esac; done
exec /usr/bin/mariadb-dump "$@"
"""


@pytest.mark.parametrize(
    ("statement", "table", "row"),
    [
        ("UPDATE counted SET v = 4711 WHERE id = 9", "counted", "row 2 (id = 9)"),
        ("DELETE FROM texts WHERE v = 'NULL'", "texts", "row 3 of the dump"),
        ("UPDATE counted_bits SET id = 8 WHERE id = 0", "counted_bits", "row 2 (id = 0)"),
        ("INSERT INTO heap VALUES (4711, 'b')", "heap", "row 5 that was read back"),
    ],
)
def test_row_that_changed_fails_its_table_and_the_database_stays(
    rows: Appliance, statement: str, table: str, row: str
) -> None:
    dump(rows, "/tmp/d")
    sql(rows, "UPDATE `rows`.counted SET v = 17")
    before = stock(rows, "rows")
    with instead_of_the_dump_tool(rows, CHANGE.format(statement=statement)):
        answer = load(rows, "/tmp/d")
    assert f"mysql:rows/{table}" in answer["failed"]
    assert row in answer["failed"]
    assert "4711" not in answer["failed"]
    assert stock(rows, "rows") == before
    assert not [name for name in databases(rows) if name.startswith("tklb_")]


def test_row_that_changed_is_named_where_no_older_database_would_be_lost(rows: Appliance) -> None:
    dump(rows, "/tmp/d")
    sql(rows, "DROP DATABASE `rows`")
    with instead_of_the_dump_tool(rows, CHANGE.format(statement="UPDATE counted SET v = 4711 WHERE id = 9")):
        answer = load(rows, "/tmp/d")
    assert (answer["failed"], items(answer)) == (None, {"rows/counted"})
    assert "row 2 (id = 9) was not read back as it is in the dump: it differs in v" in str(answer["skipped"])
    assert sql(rows, "SELECT v FROM `rows`.counted WHERE id = 9") == "4711"
    assert sql(rows, "SELECT COUNT(*) FROM `rows`.texts") != "0"


def test_table_that_cannot_be_read_back_fails(rows: Appliance) -> None:
    dump(rows, "/tmp/d")
    with instead_of_the_dump_tool(rows, "echo 'it broke' >&2; exit 2"):
        answer = load(rows, "/tmp/d")
    assert "cannot be read back: it broke" in answer["failed"]


def test_rows_are_only_counted_where_reading_back_is_switched_off(rows: Appliance) -> None:
    dump(rows, "/tmp/d")
    with instead_of_the_dump_tool(rows, "exit 2"):
        answer = load(rows, "/tmp/d", read_back=False)
    assert (answer["failed"], items(answer)) == (None, set())


# ---------------------------------------------------------------- generated values

GENERATED = """
SET GLOBAL time_zone = '+05:00'; SET time_zone = '+05:00';
CREATE TABLE stored (id INT PRIMARY KEY, t TIMESTAMP NULL, d DATE AS (CAST(t AS DATE)) STORED);
INSERT INTO stored (id, t) VALUES (1, '2024-01-01 02:00:00'), (2, '2024-06-01 12:00:00'), (3, NULL);
CREATE TABLE indexed (id INT PRIMARY KEY, t TIMESTAMP NULL, h INT AS (HOUR(t)) VIRTUAL, KEY (h));
INSERT INTO indexed (id, t) VALUES (1, '2024-01-01 02:00:00'), (2, '2024-06-01 12:00:00');
CREATE TABLE plain (id INT PRIMARY KEY, v VARCHAR(9), u VARCHAR(9) AS (UPPER(v)) STORED,
    l INT AS (LENGTH(v)) VIRTUAL, KEY (l));
INSERT INTO plain (id, v) VALUES (1, 'a'), (2, 'bb');
"""
ASK_GENERATED = """
SET time_zone = '+05:00'; SELECT id, d FROM `rows`.stored; SELECT id FROM `rows`.indexed FORCE INDEX (h) WHERE h = 2;
SELECT id, u, l FROM `rows`.plain; CHECK TABLE `rows`.indexed EXTENDED;
"""


@pytest.mark.parametrize("zone", ["+05:00", "+00:00"])
def test_generated_values_come_as_they_were(rows: Appliance, zone: str) -> None:
    sql(rows, f"USE `rows`; {GENERATED}")
    before = sql(rows, ASK_GENERATED)
    assert "2024-01-01" in before
    dump(rows, "/tmp/d")
    sql(rows, f"DROP DATABASE `rows`; SET GLOBAL time_zone = '{zone}'")
    try:
        answer = load(rows, "/tmp/d")
        assert (answer["failed"], items(answer)) == (None, set())
        assert sql(rows, ASK_GENERATED) == before
    finally:
        sql(rows, "SET GLOBAL time_zone = 'SYSTEM'")


def test_generated_values_that_cannot_be_as_they_were_are_named(rows: Appliance) -> None:
    sql(rows, f"USE `rows`; {GENERATED}")
    sql(rows, "SET time_zone = '-08:00'; INSERT INTO `rows`.stored (id, t) VALUES (4, '2024-01-01 23:00:00')")
    dump(rows, "/tmp/d")
    sql(rows, "SET GLOBAL time_zone = 'SYSTEM'")
    answer = load(rows, "/tmp/d")
    assert (answer["failed"], items(answer)) == (None, {"rows/stored"})
    assert "`d`" in answer["skipped"][0][1]
    assert sql(rows, "SELECT COUNT(*) FROM `rows`.stored") == "4"


# ---------------------------------------------------------------- what the server would refuse


@contextmanager
def settings(box: Appliance, **values: str) -> Iterator[None]:
    """Global settings of the server, which are the default ones again at the end."""
    sql(box, "".join(f"SET GLOBAL {name} = {value};" for name, value in values.items()))
    try:
        yield
    finally:
        sql(box, "".join(f"SET GLOBAL {name} = DEFAULT;" for name in values))


@pytest.mark.parametrize("is_local_allowed", some(["0", "1"], 2))
def test_large_values_come_through_small_packets(rows: Appliance, is_local_allowed: str) -> None:
    with settings(rows, max_allowed_packet="1073741824"):
        sql(rows, "CREATE TABLE `rows`.large (id INT PRIMARY KEY, b LONGBLOB, t LONGTEXT)")
        sql(rows, "INSERT INTO `rows`.large VALUES (1, REPEAT('ab', 6000000), REPEAT('cd', 2000000)), (2, 'x', 'y')")
    dump(rows, "/tmp/d")
    sql(rows, "UPDATE `rows`.large SET b = '', t = ''")
    with settings(rows, max_allowed_packet="1048576", local_infile=is_local_allowed):
        answer = load(rows, "/tmp/d")
        assert sql(rows, "SELECT @@GLOBAL.local_infile") == is_local_allowed
    assert (answer["failed"], items(answer)) == (None, set())
    asked = "SELECT MD5(b) = MD5(REPEAT('ab', 6000000)), LENGTH(t) FROM `rows`.large WHERE id = 1"
    assert sql(rows, asked) == "1\t4000000"


REFUSALS = {
    "innodb_force_primary_key": "1",
    "innodb_read_only_compressed": "1",
    "innodb_default_row_format": "'compact'",
    "enforce_storage_engine": "'MyISAM'",
    "sql_select_limit": "1",
    "sql_mode": "'ANSI,PAD_CHAR_TO_FULL_LENGTH,NO_ZERO_DATE,STRICT_ALL_TABLES'",
    "max_statement_time": "0.001",
    "max_join_size": "1",
    "max_heap_table_size": "16384",
    "tmp_disk_table_size": "1024",
    "max_session_mem_used": "8192",
    "sort_buffer_size": "1024",
    "system_versioning_asof": "'2001-01-01 00:00:00'",
    "innodb_compression_default": "1",
}
REFUSED = """
CREATE TABLE `rows`.packed (v INT, t TEXT) ROW_FORMAT = COMPRESSED; INSERT INTO `rows`.packed VALUES (1, 'x');
CREATE TABLE `rows`.wide (k VARCHAR(500) PRIMARY KEY); INSERT INTO `rows`.wide VALUES ('a'), ('b');
CREATE TABLE `rows`.in_memory (v VARCHAR(200)) ENGINE = MEMORY;
INSERT INTO `rows`.in_memory SELECT REPEAT('x', 200) FROM `rows`.seq_1_to_500;
"""


MISLEADING = {
    "system_versioning_asof": "'2001-01-01 00:00:00'",
    "sql_mode": "'ANSI_QUOTES,ORACLE,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES'",
    "old_mode": "'UTF8_IS_UTF8MB3,ZERO_DATE_TIME_CAST'",
    "character_set_server": "ucs2",
    "sql_select_limit": "1",
    "max_join_size": "1",
    "max_statement_time": "0.001",
    "idle_transaction_timeout": "1",
    "autocommit": "0",
    "completion_type": "CHAIN",
    "tx_isolation": "'READ-UNCOMMITTED'",
    "lock_wait_timeout": "1",
    "group_concat_max_len": "4",
    "tmp_disk_table_size": "1024",
    "sort_buffer_size": "1024",
}


def test_settings_of_the_server_change_no_dump(rows: Appliance) -> None:
    digest = ["sh", "-c", "cd /tmp/d && find . -type f | sort | xargs -d '\\n' sha256sum"]
    first = dump(rows, "/tmp/d")
    seen = rows.run(digest).stdout
    with settings(rows, **MISLEADING):
        again = dump(rows, "/tmp/d")
    assert rows.run(digest).stdout == seen
    assert again["skipped"] == first["skipped"]


def test_settings_that_refuse_a_load_are_put_aside_and_given_back(rows: Appliance) -> None:
    sql(rows, REFUSED)
    before = list_lines(rows)
    dump(rows, "/tmp/d")
    sql(rows, "DROP DATABASE `rows`")
    with settings(rows, **REFUSALS):
        there = sql(rows, f"SELECT {', '.join(f'@@GLOBAL.{name}' for name in REFUSALS)}")
        answer = load(rows, "/tmp/d")
        assert sql(rows, f"SELECT {', '.join(f'@@GLOBAL.{name}' for name in REFUSALS)}") == there
    assert (answer["failed"], items(answer)) == (None, set())
    assert list_lines(rows) == before
    assert not [name for name in databases(rows) if name.startswith("tklb_")]


KILL_MYSELF = """
    def stop(*_):
        os.kill(os.getpid(), 9)
    values["progress"] = stop
"""


def test_settings_are_given_back_after_a_kill(rows: Appliance) -> None:
    dump(rows, "/tmp/d")
    with settings(rows, innodb_force_primary_key="1"):
        with pytest.raises((AssertionError, OSError, EOFError)):
            run(rows, KILL_MYSELF + LOAD, folder="/tmp/d", names=None)
        assert [name for name in databases(rows) if name.startswith("tklb_scratch")]
        wait_for(rows, "SELECT @@GLOBAL.innodb_force_primary_key", "1")
        sql(rows, "SET GLOBAL innodb_force_primary_key = 0")  # as if the client had been killed, too
        answer = load(rows, "/tmp/d")
        assert (answer["failed"], items(answer)) == (None, set())
        assert sql(rows, "SELECT @@GLOBAL.innodb_force_primary_key") == "1"
    assert not [name for name in databases(rows) if name.startswith("tklb_")]


AFTER_THE_SWAP = """
    from tklb.databases.mariadb.load import swap
    usual = swap.swap_database
    def sabotage(session, moves, *more):
        ended = usual(session, moves, *more)
        session.run("SET SESSION lock_wait_timeout = 1")
        from tklb.databases.mariadb.connection import open_connection
        global other
        other = open_connection(server.login)
        other.run(f"LOCK TABLES `{moves.aside}`.heap WRITE")
        return ended
    swap.swap_database = sabotage
"""


def test_load_is_not_undone_by_a_failure_after_the_swap(rows: Appliance) -> None:
    dump(rows, "/tmp/d")
    sql(rows, "UPDATE `rows`.counted SET v = 17")
    answer = run(rows, AFTER_THE_SWAP + LOAD, folder="/tmp/d", names=None)
    assert answer["failed"] is None
    assert items(answer) == {"rows"}
    assert "is left over" in answer["skipped"][0][1]
    assert "17" not in sql(rows, "SELECT v FROM `rows`.counted")


# ---------------------------------------------------------------- storage engines


@pytest.mark.parametrize(("engine", "file"), [("ARCHIVE", "ha_archive"), ("BLACKHOLE", "ha_blackhole")])
def test_storage_engine_comes_or_its_table_is_named(rows: Appliance, engine: str, file: str) -> None:
    sql(rows, f"INSTALL SONAME '{file}'; CREATE TABLE `rows`.other (v INT) ENGINE = {engine}")
    sql(rows, "INSERT INTO `rows`.other VALUES (1), (2)")
    before = sql(rows, "SHOW CREATE TABLE `rows`.other; SELECT * FROM `rows`.other")
    dump(rows, "/tmp/d")
    sql(rows, f"DROP DATABASE `rows`; UNINSTALL SONAME '{file}'")
    answer = load(rows, "/tmp/d")
    assert (answer["failed"], items(answer)) == (None, set())
    assert any(engine in note for note in answer["notes"])
    assert sql(rows, "SHOW CREATE TABLE `rows`.other; SELECT * FROM `rows`.other") == before
    sql(rows, f"DROP DATABASE `rows`; UNINSTALL SONAME '{file}'")
    (place,) = (rows.root / "usr/lib/mysql/plugin").glob(f"{file}.so")
    place.rename(place.with_suffix(".away"))
    try:
        answer = load(rows, "/tmp/d")
    finally:
        place.with_suffix(".away").rename(place)
    assert (answer["failed"], items(answer)) == (None, {"rows/other"})
    assert sql(rows, "SELECT COUNT(*) FROM `rows`.heap; SHOW TABLES FROM `rows` LIKE 'other'") == "4"


def test_table_that_cannot_be_made_here_is_named_and_the_others_come(rows: Appliance) -> None:
    dump(rows, "/tmp/d")
    (place,) = (rows.root / "tmp/d").glob("rows/**/figures.sql")
    place.write_bytes(place.read_bytes().replace(b"double", b"newtype"))
    sql(rows, "DROP DATABASE `rows`")
    answer = load(rows, "/tmp/d")
    assert (answer["failed"], items(answer)) == (None, {"rows/figures"})
    assert "newtype" in str(answer["skipped"]).lower()
    assert sql(rows, "SELECT COUNT(*) FROM `rows`.heap; SHOW TABLES FROM `rows` LIKE 'figures'") == "4"


def test_accounts_come_where_passwords_have_to_be_strong(rows: Appliance) -> None:
    sql(rows, "CREATE OR REPLACE USER weak@'%' IDENTIFIED BY 'x'; GRANT SELECT ON `rows`.* TO weak@'%'")
    dump(rows, "/tmp/d")
    sql(rows, "DROP USER weak@'%'; INSTALL SONAME 'simple_password_check'")
    try:
        answer = load(rows, "/tmp/d", "nothing", accounts=True)
        assert sql(rows, "SELECT @@GLOBAL.strict_password_validation") == "1"
    finally:
        sql(rows, "UNINSTALL SONAME 'simple_password_check'")
    assert items(answer) == set()
    assert sql(rows, "SELECT COUNT(*) FROM mysql.user WHERE User = 'weak'") == "1"


def test_row_that_is_longer_than_the_log_of_the_server_comes(rows: Appliance) -> None:
    """InnoDB waits for itself for ever where its log has no room for a row, and no KILL ends that."""
    with settings(rows, max_allowed_packet="1073741824"):
        sql(rows, "CREATE DATABASE one; CREATE TABLE one.t (id INT PRIMARY KEY, b LONGBLOB)")
        sql(rows, "INSERT INTO one.t VALUES (1, REPEAT('abcd', 6000000)), (2, 'x')")
    dump(rows, "/tmp/d", "mysql:one", "-mysql:*")
    sql(rows, "DROP DATABASE one")
    with settings(rows, max_allowed_packet="1048576", innodb_log_file_size="16777216"):
        answer = run(rows, SHORT_PATIENCE.replace("19)", "0)") + LOAD, folder="/tmp/d", names=["one"])
        assert sql(rows, "SELECT @@GLOBAL.innodb_log_file_size") == "16777216"
    assert (answer["failed"], items(answer)) == (None, set())
    assert sql(rows, "SELECT LENGTH(b) FROM one.t") == "24000000\n1"


@pytest.mark.parametrize("free", some([0, 2], 2))
def test_dump_and_load_need_only_the_session_that_is_kept_for_administrators(rows: Appliance, free: int) -> None:
    """Of ordinary sessions, `free` are left; one more is for administrators."""
    digest = ["sh", "-c", "cd /tmp/d/rows && find . -type f | sort | xargs -d '\\n' sha256sum"]
    dump(rows, "/tmp/d")
    seen, before = rows.run(digest).stdout, list_lines(rows)
    sql(rows, "CREATE OR REPLACE USER guest@localhost")
    guest = ["mariadb", "--no-defaults", "-uguest", "--unbuffered", "-N"]
    with settings(rows, max_connections="10"):
        with contextlib.ExitStack() as stack:
            for _ in range(10 - free):
                client = stack.enter_context(rows.popen(guest, stdin=PIPE, stdout=PIPE))
                client.stdin.write(b"SELECT 1;\n")
                client.stdin.flush()
                assert client.stdout.readline() == b"1\n"
            answers = dump(rows, "/tmp/d"), load(rows, "/tmp/d")
        wait_for(rows, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'guest'", "0")
        assert sql(rows, "SELECT @@GLOBAL.max_connections") == "10"
    assert [items(answer) for answer in answers] == [set(), set()]
    assert answers[1]["failed"] is None
    assert not [name for name in databases(rows) if name.startswith("tklb_")]
    assert rows.run(digest).stdout == seen
    assert list_lines(rows) == before


SHORT_PATIENCE = """
    from tklb.databases.mariadb import connection
    from tklb.databases.mariadb.load import load_rows, server_settings, server_watch
    load_rows._PATIENCE, load_rows._LOOK = 3, 0.2
    for module in (connection, load_rows, server_settings, server_watch):
        for name in {"_CONNECT_SECONDS", "_ANSWER_SECONDS", "_SECONDS"} & set(vars(module)):
            setattr(module, name, 1)
    def stop(*_):
        os.kill(int(Path("/run/mysqld/mysqld.pid").read_text()), 19)
    values["progress"] = stop
"""


def test_load_ends_where_the_server_hangs_and_names_the_row(rows: Appliance) -> None:
    sql(
        rows,
        "CREATE DATABASE one; CREATE TABLE one.t (v TEXT); INSERT INTO one.t VALUES ('x'), (REPEAT('y', 5000)), ('z')",
    )
    dump(rows, "/tmp/d", "mysql:one", "-mysql:*")
    try:
        answer = run(rows, SHORT_PATIENCE + LOAD, folder="/tmp/d", names=["one"])
    finally:
        rows.run(["sh", "-c", "kill -CONT $(cat /run/mysqld/mysqld.pid)"])
    assert "mysql:one/t" in answer["failed"]
    assert "the server has done nothing for 3 seconds; its longest row is number 2" in answer["failed"]
    assert load(rows, "/tmp/d")["failed"] is None
    assert not [name for name in databases(rows) if name.startswith("tklb_")]
