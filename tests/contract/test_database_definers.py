"""What the owner of a MariaDB database leaves in it runs with the owner's rights, or not at all, in dumps and loads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.test_database_mysql import databases, dump, load, sql
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE

pytestmark = pytest.mark.lab

# All of it is bob's, who has every right in his database and none elsewhere. Whoever obeys gives him all.
GAIN = """
BEGIN
  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
  INSERT INTO bobs.gained VALUES (CURRENT_USER(), USER());
  INSERT INTO mysql.global_priv VALUES ('%', 'mallory', '{{"access": 18446744073709551615}}');
  UPDATE mysql.global_priv SET Priv = JSON_SET(Priv, '$.access', 549755813887) WHERE User = 'bob';
  {end}
END"""
ATTACK = f"""
DELIMITER //
CREATE TABLE gained (as_whom TEXT, came TEXT) //
CREATE FUNCTION gain() RETURNS INT SQL SECURITY INVOKER MODIFIES SQL DATA {GAIN.format(end="RETURN 1;")} //
CREATE PROCEDURE take() SQL SECURITY INVOKER {GAIN.format(end="")} //
CREATE TABLE t (a INT PRIMARY KEY, b TEXT) //
INSERT INTO t VALUES (1, 'x'), (2, 'y') //
CREATE TRIGGER before_t BEFORE INSERT ON t FOR EACH ROW {GAIN.format(end="")} //
CREATE TRIGGER after_t AFTER INSERT ON t FOR EACH ROW CALL take() //
CREATE TRIGGER gone_t AFTER DELETE ON t FOR EACH ROW CALL take() //
CREATE SQL SECURITY INVOKER VIEW v AS SELECT a, gain() AS g FROM t WHERE gain() = 1 //
CREATE SQL SECURITY INVOKER VIEW constant AS SELECT gain() AS g //
CREATE SQL SECURITY INVOKER VIEW nested AS SELECT * FROM v JOIN constant USING (g) ORDER BY gain() //
CREATE EVENT soon ON SCHEDULE EVERY 1 SECOND DO CALL take() //
"""
# The server itself lets no function of a user's into what it computes while rows come in.
EXPRESSIONS = (
    "CREATE TABLE r (a INT CHECK (gain() = 1))",
    "CREATE TABLE r (a INT, b INT AS (gain()) STORED)",
    "CREATE TABLE r (a INT, b INT AS (gain()) VIRTUAL)",
    "CREATE TABLE r (a INT DEFAULT (gain()))",
    "CREATE TABLE r (a INT) PARTITION BY HASH (gain())",
)


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    with database_clone("bookworm", "mariadb", binds=TREE_INSIDE) as machine:
        sql(
            machine,
            "CREATE DATABASE bobs; CREATE USER bob@localhost IDENTIFIED BY 'b'; GRANT ALL ON bobs.* TO bob@localhost",
        )
        as_bob(machine, ATTACK)
        yield machine


def as_bob(box: Appliance, statements: str) -> None:
    box.run(["mariadb", "--no-defaults", "-ubob", "bobs"], input=statements, env={"MYSQL_PWD": "b"})


def state(box: Appliance) -> str:
    accounts = "SELECT Host, User, JSON_REMOVE(Priv, '$.password_last_changed') FROM mysql.global_priv ORDER BY 1, 2"
    return sql(box, accounts)


@pytest.mark.parametrize("table", EXPRESSIONS)
def test_the_server_refuses_functions_in_what_it_computes_of_rows(box: Appliance, table: str) -> None:
    with pytest.raises(AssertionError, match=r"cannot be used in|not allowed"):
        as_bob(box, table)


@pytest.mark.parametrize("tables", [None, ["t"]])
def test_code_of_an_owner_gains_nothing(box: Appliance, tables: list[str] | None) -> None:
    before = state(box)
    sql(box, "DELETE FROM bobs.gained")
    assert dump(box, "/root/dump")["skipped"] == []
    assert state(box) == before
    assert sql(box, "SELECT * FROM bobs.gained WHERE as_whom <> 'bob@localhost'") == ""
    if tables is None:
        sql(box, "DROP DATABASE bobs")
        answer = load(box, "/root/dump", accounts=True)
    else:
        answer = load(box, "/root/dump", "bobs", tables=tables)
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert state(box) == before
    assert sql(box, "SELECT * FROM bobs.gained WHERE as_whom <> 'bob@localhost'") == ""
    assert sql(box, "SELECT * FROM bobs.t") == "1\tx\n2\ty"
    definers = "SELECT DEFINER FROM information_schema.{} WHERE {}_SCHEMA = 'bobs'"
    kinds = (("ROUTINES", "ROUTINE"), ("TRIGGERS", "TRIGGER"), ("VIEWS", "TABLE"), ("EVENTS", "EVENT"))
    assert sql(box, " UNION ".join(definers.format(*kind) for kind in kinds)) == "bob@localhost"
    assert databases(box) >= {"bobs"}


def test_the_trap_is_live_for_whoever_looks_through_the_view(box: Appliance) -> None:
    sql(box, "SELECT * FROM bobs.constant")
    assert sql(box, "SELECT DISTINCT as_whom FROM bobs.gained WHERE as_whom <> 'bob@localhost'") == "root@localhost"
    assert "mallory" in state(box)
