"""MySQL proper, of Debian's sid: its dialect of SQL makes the trip. Judged by MySQL's own checksums and definitions.

Takes the lab's trixie with MySQL's server laid over it; touches clones only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from subprocess import DEVNULL

import pytest

from tests.contract.test_database_mysql import dump, load
from tests.lab.appliance import RESOLVER, Appliance
from tests.lab.box import Box
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE
from tests.lab.roots import POLICY, allow_no_services, layer, root
from tests.lab.soak import SOAK

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; it needs MySQL's server of Debian's sid"),
]

SOURCES = """Types: deb
URIs: {mirror}
Suites: sid
Check-Valid-Until: no
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
FIND = "grep -rhoE 'https?://[^ ]+' /etc/apt/sources.list /etc/apt/sources.list.d | grep -v security | head -1"


def install(box: Box) -> None:
    (box.root / "etc/resolv.conf").write_text(f"nameserver {RESOLVER}\n")
    allow_no_services(box.root)
    mirror = str(box.run(["sh", "-c", FIND], check=False).stdout).strip()
    (box.root / "etc/apt/sources.list.d/sid.sources").write_text(SOURCES.format(mirror=mirror))
    (box.root / "etc/apt/preferences.d/sid").write_text("Package: *\nPin: release n=sid\nPin-Priority: 100\n")
    box.run(["apt-get", "-q", "update"], timeout=900)
    command = ["apt-get", "install", "-qy", "--no-install-recommends", "-t", "sid"]
    box.run([*command, "mysql-server-core", "mysql-client-core"], timeout=1800)
    box.run(["apt-get", "clean"])
    (box.root / "etc/resolv.conf").unlink()
    (box.root / POLICY).unlink()


def sql(box: Appliance, text: str) -> str:
    return str(box.run(["mysql", "-uroot", "-N", "-B", "--default-character-set=utf8mb4"], input=text).stdout)


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    try:
        made = layer("mysql-sid", [root("trixie-core")], install)
    except AssertionError as exc:
        pytest.skip(f"MySQL's server cannot be installed: {str(exc)[-300:]}")
    with database_clone("trixie", "mariadb", binds=TREE_INSIDE, layers=[made], start=False) as machine:
        machine.run(["sh", "-ec", "rm -rf /var/lib/mysql; install -d -o mysql -g mysql /var/lib/mysql /run/mysqld"])
        machine.run(["mysqld", "--no-defaults", "--initialize-insecure", "--user=mysql"], timeout=300)
        arguments = [
            "--no-defaults",
            "--user=mysql",
            "--socket=/run/mysqld/mysqld.sock",
            "--mysqlx=OFF",
            "--secure-file-priv=",
        ]
        with machine.popen(["mysqld", *arguments], stdout=DEVNULL, stderr=DEVNULL) as server:
            until = time.monotonic() + 120
            while machine.run(["mysqladmin", "-uroot", "ping"], check=False).returncode:
                assert time.monotonic() < until
                time.sleep(0.5)
            yield machine
            machine.run(["mysqladmin", "-uroot", "shutdown"])
            server.wait(120)


CONTENT = r"""
CREATE DATABASE app CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci; USE app;
CREATE TABLE plain (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(50), b LONGBLOB, d DOUBLE, j JSON,
  t TIMESTAMP(6) NULL);
SET sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO');
INSERT INTO plain VALUES (0, 'zero \\ \n \t', X'00FF27', 0.1, '{"a": [1, 2.0]}', '2026-07-01 12:00:00.000001'),
  (1, NULL, NULL, NULL, NULL, NULL), (9, '💩', '', -0e0, '"x"', NULL);
CREATE TABLE hidden (id INT, v INT INVISIBLE DEFAULT 5, g INT GENERATED ALWAYS AS (id * 2) STORED, KEY k ((id + 1)),
  CHECK (id < 100), KEY down (id DESC), KEY unseen (v) INVISIBLE);
INSERT INTO hidden (id, v) VALUES (1, 2), (3, 4);
CREATE TABLE parts (id INT, y INT) PARTITION BY RANGE (y)
  (PARTITION a VALUES LESS THAN (5), PARTITION b VALUES LESS THAN MAXVALUE);
INSERT INTO parts VALUES (1, 1), (2, 9);
CREATE TABLE keyless (a INT, SPATIAL_ POINT SRID 4326, bits BIT(9), e ENUM ('', 'x'), s SET ('a', 'b'), y YEAR);
INSERT INTO keyless VALUES (1, ST_GeomFromText('POINT(1 2)', 4326), b'101', 'x', 'a,b', 2026),
  (1, NULL, NULL, '', '', 1999);
CREATE TABLE parent (id INT PRIMARY KEY); CREATE TABLE child (id INT, FOREIGN KEY (id) REFERENCES parent (id));
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1);
CREATE TABLE texts (a TEXT CHARACTER SET latin1, b CHAR(3) COLLATE utf8mb4_bin, FULLTEXT (a));
INSERT INTO texts VALUES ('é', 'x');
CREATE VIEW seen AS SELECT id, LATERAL_.n FROM plain, LATERAL (SELECT id + 1 AS n) LATERAL_;
CREATE FUNCTION twice (a INT) RETURNS INT DETERMINISTIC RETURN a * 2;
CREATE PROCEDURE say () SELECT 'said';
CREATE TRIGGER loud BEFORE INSERT ON child FOR EACH ROW SET NEW.id = NEW.id;
CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY STARTS '2035-01-01' DO DELETE FROM keyless;
CREATE ROLE reader; GRANT SELECT ON app.* TO reader;
CREATE USER bob@localhost IDENTIFIED BY 'secret' REQUIRE NONE PASSWORD EXPIRE NEVER; GRANT reader TO bob@localhost;
SET DEFAULT ROLE reader TO bob@localhost;
"""
TABLES = ("plain", "hidden", "parts", "keyless", "parent", "child", "texts")
WHEN = re.compile(r"\t\d{4}-\d\d-\d\d [\d:.]+$", re.MULTILINE)  # a trigger was made
SUMS = f"CHECKSUM TABLE {', '.join(f'app.{name}' for name in TABLES)};"
SHOWN = "".join(f"SHOW CREATE TABLE app.{name};" for name in TABLES) + (
    "SHOW CREATE VIEW app.seen; SHOW CREATE FUNCTION app.twice; SHOW CREATE PROCEDURE app.say;"
    "SHOW CREATE TRIGGER app.loud; SHOW CREATE EVENT app.tidy;"
)
USERS = "SHOW CREATE USER bob@localhost; SHOW GRANTS FOR bob@localhost; SHOW GRANTS FOR reader;"


def test_databases_of_mysql_come_back_as_they_were(box: Appliance) -> None:
    sql(box, CONTENT)
    sums, shown = sql(box, SUMS), sql(box, SHOWN)
    taken = dump(box, "/root/d", "mysql:app", "-mysql:*")
    assert taken["skipped"] == []
    assert set(taken["tables"]["app"]) == set(TABLES)
    sql(box, "DROP DATABASE app")
    answer = load(box, "/root/d", "app")
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert sql(box, SUMS) == sums
    assert WHEN.sub("", sql(box, SHOWN)) == WHEN.sub("", shown)
    assert sql(box, "SELECT id FROM app.plain WHERE id = 0") == "0\n"


def test_accounts_of_mysql_come_back_or_are_named(box: Appliance) -> None:
    before = sql(box, USERS)
    sql(box, "DROP USER bob@localhost; DROP ROLE reader")
    answer = load(box, "/root/d", "app", accounts=True)
    named = {item for item, _ in answer["skipped"]}
    assert named or sql(box, USERS) == before
