"""A load of PostgreSQL compares what it loaded with the dump, before the loaded database takes its place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.test_database_postgres import dump, leftovers, load, only
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE
from tests.lab.postgresql import sql

pytestmark = pytest.mark.lab

# Values whose text depends on settings, and columns that no COPY has; long and short rows leave room in pages.
FORMS = """
CREATE DOMAIN short AS text CHECK (length(value) < 4000);
CREATE TYPE mood AS ENUM ('it''s', 'b,c');
CREATE TABLE forms (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz, span interval, day date, real4 real, real8 float8,
  raw bytea, doc xml, json json, list text[], feeling mood, price money, dom short, "a ""b"" c" text,
  made int GENERATED ALWAYS AS (length(dom)) STORED);
CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.dom := ''changed''; RETURN NEW; END';
INSERT INTO forms (at, span, day, real4, real8, raw, doc, json, list, feeling, price, dom, "a ""b"" c")
SELECT '2024-03-31 01:30Z'::timestamptz + n * '1 hour'::interval, '1 mon -2 days 03:04:05.678', '0044-03-15 BC',
  0.1 + n, pi() * n, decode(md5(n::text), 'hex'), '<a/>text', '{"a":  1, "a": 2}', ARRAY['NULL', NULL, '{}"\\'],
  'it''s', n, repeat('x', n * 37 % 3000), E'tab\\tline\\nback\\\\slash\\rend' FROM generate_series(1, 3000) n;
CREATE TRIGGER changed BEFORE INSERT ON forms FOR EACH ROW EXECUTE FUNCTION changed();
CREATE TABLE plain (a text);
INSERT INTO plain SELECT repeat('y', n * 7919 % 5000) FROM generate_series(1, 3000) n;
CREATE TABLE empty (); INSERT INTO empty DEFAULT VALUES;
SELECT lo_from_bytea(4711, repeat('abc', 9999)::bytea);
"""
SETTINGS = (
    *("datestyle = 'SQL, DMY'", "intervalstyle = iso_8601", "timezone = 'Europe/Berlin'", "extra_float_digits = -10"),
    *("bytea_output = escape", "xmloption = document", "array_nulls = off"),
)


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    with database_clone("bookworm", "postgresql", binds=TREE_INSIDE) as machine:
        sql(machine, "CREATE DATABASE forms TEMPLATE template0")
        sql(machine, FORMS, "forms")
        for setting in SETTINGS:
            sql(machine, f"ALTER DATABASE forms SET {setting}; ALTER ROLE postgres SET {setting}")
        assert dump(machine, "/root/dump", overrides=only("forms"))["skipped"] == []
        yield machine


def test_every_form_of_value_is_read_back_as_it_was_written(box: Appliance) -> None:
    answer = load(box, "/root/dump", "forms", into="other")
    assert (answer["failed"], answer["skipped"], answer["notes"]) == (None, [], [])


def test_loaded_table_has_the_rows_in_the_order_of_the_dump(box: Appliance) -> None:
    load(box, "/root/dump", "forms", into="again")
    dump(box, "/root/again", overrides=only("again"))
    folders = (box.root / "root/dump/forms/rows", box.root / "root/again/again/rows")
    one, other = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one == other
    assert len(one) > 5


def plant_change(box: Appliance) -> None:
    """A rule of the server's owner: what is written into the new table is not what the dump has."""
    box.run(["rm", "-rf", "/root/changed"])
    box.run(["cp", "-a", "/root/dump", "/root/changed"])
    script = box.root / "root/changed/forms/pre-data.sql"
    text = script.read_text()
    trigger = (
        'CREATE TRIGGER "early" BEFORE INSERT ON "public"."forms" FOR EACH ROW WHEN ((NEW."id" = 2222))'
        ' EXECUTE FUNCTION "public"."changed"();\n'
    )
    end = "--\n-- PostgreSQL database dump complete"
    script.write_text(text.replace(end, trigger + end))


CHANGED = "(id = 2222) was not read back as it is in the dump: it differs in dom"


def test_row_that_changed_on_the_way_is_named_where_no_older_database_would_be_lost(box: Appliance) -> None:
    plant_change(box)
    sql(box, "DROP DATABASE IF EXISTS target")
    answer = load(box, "/root/changed", "forms", into="target")
    assert answer["failed"] is None
    ((item, reason),) = answer["skipped"]
    assert (item, CHANGED in reason) == ("pgsql:target/public.forms", True)
    assert sql(box, "SELECT count(*) > 1 FROM forms", "target") == "t\n"
    assert leftovers(box) == ""


@pytest.mark.parametrize("is_wanted", [True, False])
def test_row_that_changed_on_the_way_is_named_and_the_old_database_stays(box: Appliance, is_wanted: bool) -> None:
    plant_change(box)
    sql(box, "DROP DATABASE IF EXISTS target; CREATE DATABASE target")
    sql(box, "CREATE TABLE old (a int)", "target")
    answer = load(box, "/root/changed", "forms", into="target", read_back=is_wanted)
    if is_wanted:
        assert "public.forms" in answer["failed"]
        assert CHANGED in answer["failed"]
        assert sql(box, "SELECT relname FROM pg_class WHERE relname IN ('old', 'forms')", "target") == "old\n"
    else:
        assert answer["failed"] is None
    assert leftovers(box) == ""
