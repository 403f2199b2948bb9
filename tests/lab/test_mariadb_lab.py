"""The MariaDB lab itself: filling gives the same twice and runs nothing, and the checker sees what was changed.

Takes the cached roots; touches clones only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab import mariadb, mariadb_checker
from tests.lab.databases import database_clone
from tests.lab.mariadb import DEFINER, HOSTILE, MODE, PASSWORD_HASH, fill, name, person
from tests.lab.mariadb_checker import Mismatch, Record, administrators, compare, newer_server, past, record
from tests.lab.soak import SOAK

# The judges of other tests, and the slowest: they change with their own files only.
pytestmark = [pytest.mark.lab, pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1")]

# What is done to one of two equal servers, and where the checker must see it: kind, part of the name, fact.
CHANGES: tuple[tuple[str | bytes, tuple[str, str, str]], ...] = (
    (
        "UPDATE types.`BLOB` SET v = INSERT(v, 200, 1, X'C6') WHERE LENGTH(v) = 256",
        ("table", "`types`.`BLOB`", "content"),
    ),
    ("UPDATE types.`FLOAT` SET v = 0.10000002 WHERE v = CAST(0.1 AS FLOAT)", ("table", "`types`.`FLOAT`", "content")),
    ("UPDATE types.`DOUBLE` SET v = 0.30000000000000010 WHERE id = 7", ("table", "`types`.`DOUBLE`", "content")),
    ("UPDATE types.`BIT(64)` SET v = v ^ 2 WHERE id = 1", ("table", "`types`.`BIT(64)`", "content")),
    ("UPDATE types.`TIME(6)` SET v = '-00:00:00.000002' WHERE id = 2", ("table", "`types`.`TIME(6)`", "content")),
    (
        "UPDATE types.POINT SET v = ST_GeomFromText('POINT(1 2)', 4327) WHERE id = 2",
        ("table", "`types`.`POINT`", "content"),
    ),
    ("UPDATE IGNORE types.wrong_enum SET v = '' WHERE id = 3", ("table", "`types`.`wrong_enum`", "content")),
    (
        "UPDATE types.`TIMESTAMP` SET v = v + INTERVAL 1 SECOND WHERE id = 4",
        ("table", "`types`.`TIMESTAMP`", "content"),
    ),
    ("UPDATE characters.ascii_bin SET v = 'NULL' WHERE v IS NULL", ("table", "`characters`.`ascii_bin`", "content")),
    (
        "UPDATE characters.ascii_general_ci SET v = NULL WHERE v = ''",
        ("table", "`characters`.`ascii_general_ci`", "content"),
    ),
    ("UPDATE characters.latin1_bin SET t = 'trailing ' WHERE t = 'trailing  '", ("table", "`latin1_bin`", "content")),
    ("UPDATE characters.ucs2_bin SET t = LOWER(t) WHERE t = 'NULL'", ("table", "`characters`.`ucs2_bin`", "content")),
    ("DELETE FROM `tables`.duplicates WHERE a = 1 LIMIT 1", ("table", "`tables`.`duplicates`", "rows")),
    ("UPDATE `tables`.invisible SET `also hidden` = '' WHERE id = 2", ("table", "`tables`.`invisible`", "content")),
    ("UPDATE big.one SET b = INSERT(b, 8000000, 1, 'x')", ("table", "`big`.`one`", "content")),
    ("ALTER TABLE `tables`.defaults ALTER q SET DEFAULT '\"'", ("column", "`defaults`.`q`", "COLUMN_DEFAULT")),
    ("ALTER TABLE emoji.shown_otherwise ALTER v SET DEFAULT '💨'", ("column", "`shown_otherwise`.`v`", "default")),
    ("ALTER TABLE `tables`.generated MODIFY k VARCHAR(20)", ("column", "`generated`.`k`", "GENERATION_EXPRESSION")),
    ("ALTER TABLE `tables`.commented COMMENT ''", ("table", "`tables`.`commented`", "TABLE_COMMENT")),
    ("ALTER TABLE `tables`.checks DROP CONSTRAINT `é`", ("check", "`tables`.`checks`.`Table`.`é`", "there")),
    ("ALTER TABLE `tables`.counter AUTO_INCREMENT = 18446744073709551001", ("table", "`counter`", "AUTO_INCREMENT")),
    (
        "ALTER TABLE `tables`.wide MODIFY c7 VARCHAR(5) CHARACTER SET latin2",
        ("column", "`wide`.`c7`", "CHARACTER_SET_NAME"),
    ),
    ("ALTER TABLE `keys`.indexed ALTER INDEX ignored_ NOT IGNORED", ("index", "`indexed`.`ignored_`", "IGNORED")),
    ("ALTER TABLE `keys`.prefixed DROP INDEX b", ("index", "`prefixed`.`b`", "there")),
    ("ALTER TABLE `cycle a`.hen DROP CONSTRAINT `hatched from`", ("reference", "`hen`.`hatched from`", "DELETE_RULE")),
    (
        "ALTER TABLE `cycle a`.hen ADD CONSTRAINT `hatched from` FOREIGN KEY (egg) REFERENCES egg (id)",
        ("reference", "`hen`.`hatched from`", "DELETE_RULE"),
    ),
    ("ALTER TABLE partitions.listed DROP PARTITION other", ("partition", "`listed`.`other`", "there")),
    ("ALTER TABLE engines.myisam ENGINE=Aria", ("table", "`engines`.`myisam`", "ENGINE")),
    ("DO NEXTVAL(sequences.uncached)", ("table", "`sequences`.`uncached`", "sequence")),
    ("ALTER DATABASE `a'b` COMMENT 'other'", ("schema", "`a'b`", "SCHEMA_COMMENT")),
    ("ALTER DATABASE `a.b` COLLATE utf8mb4_general_ci", ("schema", "`a.b`", "DEFAULT_COLLATION_NAME")),
    ("DROP DATABASE `CASE`", ("schema", "`CASE`", "there")),
    (f"DROP TABLE `names`.{name(HOSTILE)}", ("table", f"`names`.{name(HOSTILE)}", "there")),
    (f"ALTER DEFINER={DEFINER} VIEW views.windowed AS SELECT 1 AS id, 2 AS r", ("view", "`windowed`", "DEFINER")),
    (
        "ALTER ALGORITHM=MERGE VIEW views.`a first` AS SELECT * FROM views.`m middle` WHERE `²` > 1",
        ("view", "`a first`", "ALGORITHM"),
    ),
    ("DROP VIEW broken.`view of nothing`", ("view", "`broken`.`view of nothing`", "there")),
    ("ALTER EVENT events.every_day DISABLE", ("event", "`events`.`every_day`", "status")),
    (f"ALTER DEFINER={DEFINER} EVENT events.off COMMENT 'x'", ("event", "`events`.`off`", "definer")),
    ("ALTER PROCEDURE code.lax SQL SECURITY INVOKER", ("routine", "`code`.`lax`.`PROCEDURE`", "security_type")),
    ("CREATE OR REPLACE PROCEDURE code.crlf ()\nBEGIN\n  SELECT 'x\ny';\nEND", ("routine", "`code`.`crlf`", "body")),
    (
        "CREATE OR REPLACE FUNCTION code.slash () RETURNS VARCHAR(9) RETURN 'x'",
        ("routine", "`code`.`slash`", "sql_mode"),
    ),
    (
        (
            f"CREATE OR REPLACE DEFINER={DEFINER} TRIGGER triggers.a_third BEFORE INSERT ON triggers.watched"
            " FOR EACH ROW PRECEDES z_second BEGIN\n  -- comment;\n  SET NEW.v = NEW.v + 1;\nEND"
        ),
        ("trigger", "`triggers`.`a_third`", "ACTION_ORDER"),
    ),
    (
        (
            "CREATE OR REPLACE TRIGGER triggers.AFTER_DELETE AFTER DELETE ON triggers.watched FOR EACH ROW "
            "INSERT INTO log (t) VALUES ('AFTER DELETE; é💨')"
        ),
        ("trigger", "`triggers`.`AFTER_DELETE`", "source"),
    ),
    (f"REVOKE UPDATE ON `a%`.* FROM {person('app', '%')}", ("database grant", "`a%`.`app`", "there")),
    ("REVOKE SELECT (id) ON `tables`.generated FROM `it's a ``role```", ("column grant", "`generated`.`id`", "there")),
    (f"REVOKE PROXY ON {person('proxied', '%')} FROM {person('', '%.example.org')}", ("proxy", "`proxied`", "there")),
    ("REVOKE ADMIN OPTION FOR nested FROM app@'%'", ("role of", "`app`.`nested`", "Admin_option")),
    ("REVOKE SELECT ON `empty`.* FROM PUBLIC", ("account", "`PUBLIC`", "grants")),
    (f"SET DEFAULT ROLE NONE FOR {person(HOSTILE, '%')}", ("account", HOSTILE[:5], "default role")),
    (
        "ALTER USER 'modern'@'%' IDENTIFIED VIA ed25519 USING PASSWORD('other')",
        ("account", "`modern`", "authentication_string"),
    ),
    (f"ALTER USER 'old'@'localhost' IDENTIFIED BY PASSWORD '{PASSWORD_HASH}'", ("account", "`old`", "plugin")),
    ("ALTER USER 'locked'@'%' ACCOUNT UNLOCK", ("account", "`locked`", "account_locked")),
    ("ALTER USER 'it''s'@'localhost' REQUIRE NONE", ("account", "`it's`", "definition")),
    ("DROP USER 'ünï 日本'@'%'", ("account", "`ünï 日本`", "there")),
    ("DROP SERVER `it's ``far```", ("server", "far", "there")),
)


@pytest.fixture(scope="module")
def first() -> Iterator[Record]:
    with database_clone("bookworm", "mariadb", hostname="a") as box:
        fill(box)
        assert not (box.root / "tmp/pwned").exists()
        yield record(box)


@pytest.fixture(scope="module")
def other() -> Iterator[tuple[Record, Record]]:
    """What another server is when it was filled, and when it was changed."""
    with database_clone("bookworm", "mariadb", hostname="b") as box:
        fill(box)
        filled = record(box)
        mariadb.execute(box, [f"SET sql_mode = '{MODE}'", *(statement for statement, _ in CHANGES)])
        yield filled, record(box)


@pytest.fixture(scope="module")
def changed(first: Record, other: tuple[Record, Record]) -> list[Mismatch]:
    return list(mariadb_checker.mismatches(first, other[1]))


def test_two_servers_filled_alike_are_alike(first: Record, other: tuple[Record, Record]) -> None:
    assert compare(first, json.loads(json.dumps(other[0]))) == []


def test_filling_leaves_nothing_out(first: Record) -> None:
    assert len(first["schema"]) > len(mariadb.NAMES)
    assert all(first[kind] for kind in first if kind != "loadable function")
    assert {"rows", "content", "definition", "checksum"} <= first["table"]["`types`.`FLOAT`"].keys()


@pytest.mark.parametrize(("change", "seen"), CHANGES, ids=[str(number) for number in range(len(CHANGES))])
def test_checker_names_what_was_changed(change: str, seen: tuple[str, str, str], changed: list[Mismatch]) -> None:
    kind, part, fact = seen
    assert [each for each in changed if each.kind == kind and part in each.name and each.fact == fact]


def test_checker_names_nothing_else(changed: list[Mismatch]) -> None:
    """Each thing that differs was changed, or hangs on one that was."""
    things = [part for _, (_, part, _) in CHANGES]
    hanging = ("`CASE`", "`names`.", "`on a broken one`", "`wide`", "`app`@`%`", "`it's a ``role```", "%.example.org")
    tables = ("`checks`", "`hen`", "`indexed`", "`prefixed`", "`listed`", "`defaults`", "`generated`", "`z_second`")
    assert [str(each) for each in changed if not any(part in each.name for part in (*things, *hanging, *tables))] == []


def test_newer_server_filled_alike_is_alike_but_for_what_is_named(first: Record) -> None:
    with database_clone("trixie", "mariadb", hostname="c") as box:
        fill(box, newest=(10, 11))
        assert compare(first, record(box), allowed=[administrators, past, newer_server]) == []


def test_what_only_a_newer_server_knows_is_filled_there() -> None:
    with database_clone("trixie", "mariadb", hostname="d") as box:
        fill(box)
        facts = record(box)
        assert facts["table"]["`types`.`vector`"]["rows"] == "2"
        mariadb.execute(box, ["UPDATE types.vector SET v = VEC_FromText('[1,0,1.0000001]') WHERE id = 2"])
        found = compare(facts, record(box))
        assert len(found) == 2  # content, and the server's own checksum
        assert all("`types`.`vector`" in line for line in found)
