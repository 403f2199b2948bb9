"""Loads of MariaDB that could change rows, or that a setting of the server refuses: all comes as it was, or is named.

Takes the lab's machines; touches clones only.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.test_database_mysql import databases, dump, instead_of_the_dump_tool, items, load, sql, stock
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
