"""Rows that are nearly as large as PostgreSQL can give: they make the trip, or the table is named. A soak alone."""

from __future__ import annotations

import pytest

from tests.contract.test_database_postgres import dump, load, only
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE
from tests.lab.postgresql import sql
from tests.lab.soak import SOAK

pytestmark = [pytest.mark.lab, pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; some minutes")]

DIGEST = "SELECT n, length(b), md5(b), length(t) FROM rows ORDER BY n"


def test_row_of_500_megabytes_makes_the_trip_and_one_of_900_is_named_where_it_does_not() -> None:
    with database_clone("bookworm", "postgresql", binds=TREE_INSIDE) as machine:
        sql(machine, "CREATE DATABASE large")
        sql(machine, "CREATE TABLE rows (n int PRIMARY KEY, b bytea, t text)", "large")
        sql(machine, "ALTER TABLE rows ALTER b SET STORAGE EXTERNAL, ALTER t SET STORAGE EXTERNAL", "large")
        sql(machine, "CREATE TABLE larger (LIKE rows INCLUDING ALL); CREATE TABLE small AS SELECT 1 AS a", "large")
        sql(machine, "INSERT INTO rows VALUES (1, convert_to(repeat('0123456789abcdef', 32768000), 'UTF8'))", "large")
        sql(machine, "INSERT INTO rows VALUES (2, NULL, repeat('0123456789abcdef', 57600000))", "large")
        sql(machine, "INSERT INTO larger VALUES (1, convert_to(repeat('0123456789abcdef', 57600000), 'UTF8'))", "large")
        before = sql(machine, DIGEST, "large")
        dumped = dump(machine, "/root/dump", overrides=only("large"))
        ((item, reason),) = dumped["skipped"]
        assert item == "pgsql:large/public.larger"
        assert "invalid memory alloc request size" in reason
        assert dumped["tables"]["large"]["public.rows"] == 2
        sql(machine, "DROP DATABASE large")
        answer = load(machine, "/root/dump", "large")
        assert answer["failed"] is None
        assert answer["skipped"] == []
        assert sql(machine, DIGEST, "large") == before
        assert sql(machine, "SELECT count(*) FROM larger; SELECT a FROM small", "large") == "0\n1\n"
