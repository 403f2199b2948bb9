"""What a new MariaDB server refuses is named, and what needs another database comes in any order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.test_database_mysql import dump, items, load, run, sql
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    with database_clone("bookworm", "mariadb", binds=TREE_INSIDE) as machine:
        yield machine


BROKEN = """
CREATE DATABASE broken; USE broken;
CREATE TABLE customer (id INT PRIMARY KEY); CREATE TABLE bill (id INT, customer INT REFERENCES customer (id));
ALTER TABLE bill ADD CONSTRAINT bought FOREIGN KEY (customer) REFERENCES customer (id);
SET foreign_key_checks = 0; INSERT INTO bill VALUES (1, 99); SET foreign_key_checks = 1;
CREATE TABLE checked (n INT, CONSTRAINT small CHECK (n < 10));
SET check_constraint_checks = 0; INSERT INTO checked VALUES (11);
CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2);
CREATE FUNCTION doubled(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n;
CREATE VIEW looks AS SELECT doubled(a) AS d FROM t; CREATE VIEW looks_again AS SELECT d FROM looks;
CREATE TRIGGER watched BEFORE INSERT ON t FOR EACH ROW SET NEW.a = doubled(NEW.a);
DROP FUNCTION doubled;
"""


def test_what_is_broken_is_named_and_rows_come(box: Appliance) -> None:
    sql(box, BROKEN)
    dump(box, "/root/broken", "-mysql:*", "mysql:broken")
    sql(box, "DROP DATABASE broken")
    answer = load(box, "/root/broken")
    assert answer["failed"] is None
    assert items(answer) <= {"broken/looks", "broken/looks_again"}
    rows = "SELECT * FROM broken.bill; SELECT * FROM broken.checked; SELECT SUM(a) FROM broken.t"
    assert sql(box, rows) == "1\t99\n11\n3"


ACROSS = """
CREATE DATABASE aa; CREATE DATABASE bb; CREATE DATABASE zz;
CREATE SEQUENCE zz.numbers START WITH 5 NOCACHE;
CREATE TABLE zz.parent (id INT PRIMARY KEY); INSERT INTO zz.parent VALUES (1);
CREATE TABLE bb.t (id INT DEFAULT NEXTVAL(zz.numbers), a INT); INSERT INTO bb.t (a) VALUES (1);
CREATE SEQUENCE bb.others; CREATE TABLE aa.t (id INT DEFAULT NEXTVAL(bb.others));
CREATE TABLE aa.child (id INT, FOREIGN KEY (id) REFERENCES zz.parent (id)); INSERT INTO aa.child VALUES (1);
CREATE VIEW aa.looks AS SELECT id FROM zz.parent;
CREATE TRIGGER bb.watched AFTER INSERT ON bb.t FOR EACH ROW INSERT INTO zz.parent VALUES (NEW.id);
CREATE FUNCTION zz.one() RETURNS INT DETERMINISTIC RETURN 1;
CREATE VIEW aa.calls AS SELECT zz.one() AS one;
"""
STEPS = """
    from tklb.databases.load import DatabaseLoader
    from tklb.model.plan import Step, StepKind
    dump = DumpFolder((Path(values["folder"]),))
    loads = [DatabaseLoad(one, one.name) for one in read_server(dump).databases if one.name in values["names"]]
    steps = [Step(StepKind.DATABASE, f"mysql:{load.into}".encode(), load=load) for load in loads]
    loader = DatabaseLoader(lambda engine: server, {"mysql": dump})
    done = [(step.item.decode(), [one.reason for one in late]) for step, late in loader.carry_out_all(steps, nothing)]
    answer = [done, [one.reason for one in loader.finish()]]
"""


def test_what_needs_a_database_that_is_loaded_later_comes(box: Appliance) -> None:
    sql(box, ACROSS)
    dump(box, "/root/across", "-mysql:*", "mysql:aa", "mysql:bb", "mysql:zz")
    sql(box, "SET foreign_key_checks = 0; DROP DATABASE aa; DROP DATABASE bb; DROP DATABASE zz")
    done, late = run(box, STEPS, folder="/root/across", names=["aa", "bb", "zz"])
    assert (sorted(done), late) == ([["mysql:aa", []], ["mysql:bb", []], ["mysql:zz", []]], [])
    assert sql(box, "INSERT INTO bb.t (a) VALUES (2); SELECT id FROM bb.t; SELECT COUNT(*) FROM zz.parent") == "5\n6\n2"
    assert sql(box, "SELECT * FROM aa.looks ORDER BY 1; SELECT one FROM aa.calls") == "1\n6\n1"
    sql(box, "SET foreign_key_checks = 0; DROP DATABASE aa; DROP DATABASE bb; DROP DATABASE zz")
    done, _ = run(box, STEPS, folder="/root/across", names=["aa", "bb"])
    assert [(item, len(reasons)) for item, reasons in done] == [("mysql:aa", 1), ("mysql:bb", 1)]
    assert "zz.numbers" in done[1][1][0]
