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
SELECT lo_create(4712), lo_create(4713);
BEGIN; SELECT lo_truncate64(lo_open(4712, 131072), 8192); SELECT lo_truncate64(lo_open(4712, 131072), 4096); COMMIT;
SELECT lo_put(4713, 3000000, '\\x00ff');
"""
LENGTHS = "SELECT lo_lseek64(lo_open(n, 262144), 0, 2) FROM generate_series(4711, 4713) n"
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


def test_large_object_keeps_its_length_where_its_end_is_a_hole(box: Appliance) -> None:
    load(box, "/root/dump", "forms", into="other")
    assert sql(box, LENGTHS, "other") == sql(box, LENGTHS, "forms") == "29997\n4096\n3000002\n"


@pytest.mark.parametrize("is_here", [True, False])
def test_large_object_that_changed_on_the_way_is_named(box: Appliance, is_here: bool) -> None:
    box.run(["rm", "-rf", "/root/pages"])
    box.run(["cp", "-a", "/root/dump", "/root/pages"])
    script = box.root / "root/pages/forms/large-objects.sql"
    script.write_text(script.read_text() + "SELECT pg_catalog.lo_put(4711, 999999, 'x');\n")
    sql(box, "DROP DATABASE IF EXISTS target" + ("; CREATE DATABASE target" if is_here else ""))
    answer = load(box, "/root/pages", "forms", into="target")
    reason = answer["failed"] if is_here else dict(answer["skipped"])["pgsql:target/pg_catalog.pg_largeobject"]
    assert "(loid = 4711, pageno = 488) that was read back is not in the dump" in reason
    assert (sql(box, "SELECT to_regclass('forms') IS NULL", "target") == "t\n") is is_here
    assert leftovers(box) == ""


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


def test_index_that_the_rows_do_not_hold_is_named_where_those_of_large_tables_are_made_side_by_side(
    box: Appliance,
) -> None:
    box.run(["rm", "-rf", "/root/indexes"])
    box.run(["cp", "-a", "/root/dump", "/root/indexes"])
    script = box.root / "root/indexes/forms/post-data.sql"
    head = "--\n-- Name: {name}; Type: INDEX; Schema: public; Owner: postgres\n--\n\n"
    made = head + 'CREATE {unique} "{name}" ON "public"."forms" USING "btree" ("day");\n\n\n'
    twice, fine = (made.format(name=n, unique=u) for n, u in (("twice", "UNIQUE INDEX"), ("fine", "INDEX")))
    end = "--\n-- PostgreSQL database dump complete"
    script.write_text(script.read_text().replace(end, twice + fine + end))
    answer = load(box, "/root/indexes", "forms", into="target2")
    assert [item for item, _ in answer["skipped"]] == ["pgsql:target2/public.twice"]
    listed = sql(box, "SELECT indexname FROM pg_indexes WHERE tablename = 'forms' ORDER BY 1", "target2")
    assert listed == "fine\nforms_pkey\n"
    assert leftovers(box) == ""


# ---------------------------------------------------------------- single tables

ALWAYS = "CREATE TRIGGER late BEFORE INSERT ON forms FOR EACH ROW WHEN (NEW.id = 2222) EXECUTE FUNCTION changed()"


def test_single_table_that_a_trigger_here_changes_is_named_and_keeps_its_rows(box: Appliance) -> None:
    load(box, "/root/dump", "forms", into="single")
    sql(box, "DELETE FROM forms WHERE id > 5; UPDATE forms SET dom = 'own'", "single")
    sql(box, f"{ALWAYS}; ALTER TABLE forms ENABLE ALWAYS TRIGGER late", "single")
    failed = load(box, "/root/dump", "forms", into="single", tables=["public.forms"])["failed"]
    assert "public.forms" in failed
    assert CHANGED in failed
    assert sql(box, "SELECT count(*), min(dom) FROM forms", "single") == "5|own\n"
    sql(box, "DROP TRIGGER late ON forms", "single")
    answer = load(box, "/root/dump", "forms", into="single", tables=["public.forms", "public.plain"])
    assert (answer["failed"], answer["skipped"], answer["notes"]) == (None, [], [])
    assert sql(box, "SELECT count(*) FROM forms", "single") == "3000\n"
    assert leftovers(box) == ""


REFUSED = """
CREATE TABLE parent (id int PRIMARY KEY);
CREATE FUNCTION is_new(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TABLE child (
  n serial PRIMARY KEY, code text, small int CONSTRAINT is_small CHECK (is_new(small)), parent int REFERENCES parent);
INSERT INTO child (code, small, parent) VALUES ('a', 1, NULL), ('b', 500, NULL), ('c', 3, NULL);
CREATE INDEX by_code ON child (code);
CREATE INDEX by_function ON child (is_new(n));
COMMENT ON INDEX by_function IS 'gone';
"""


def test_single_table_comes_without_the_definitions_that_are_refused(box: Appliance) -> None:
    """The function of a check and of an index changed, and a row lost its parent."""
    sql(box, "DROP DATABASE IF EXISTS broken; CREATE DATABASE broken")
    sql(box, REFUSED, "broken")
    sql(box, "SET session_replication_role = replica; UPDATE child SET parent = 9 WHERE n = 3", "broken")
    body = "BEGIN IF $1 = 500 OR $1 = 2 THEN RAISE check_violation; END IF; RETURN true; END"
    broken = f"CREATE OR REPLACE FUNCTION is_new(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS '{body}'"
    sql(box, broken.replace("RAISE check_violation", "RETURN $1 = 2 AND 1 / ($1 - 2) > 0"), "broken")
    dump(box, "/root/broken", overrides=only("broken"))
    sql(box, "DROP TABLE child", "broken")
    answer = load(box, "/root/broken", "broken", tables=["public.child"])
    assert answer["failed"] is None
    reasons = "; ".join(f"{item}: {reason}" for item, reason in answer["skipped"])
    assert "is_small" in reasons
    assert "by_function: INDEX: division by zero" in reasons
    assert "child_parent_fkey" in reasons
    assert len(answer["skipped"]) == 3
    indexes = "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'child'::regclass ORDER BY 1"
    assert sql(box, f"SELECT count(*) FROM child; {indexes}", "broken") == "3\nchild_pkey\nby_code\n"
    assert sql(box, "INSERT INTO child (small) VALUES (1) RETURNING n", "broken") == "4\n"
    valid = "SELECT conname, convalidated FROM pg_constraint WHERE conrelid = 'child'::regclass ORDER BY 1"
    assert sql(box, valid, "broken") == "child_parent_fkey|f\nchild_pkey|t\nis_small|f\n"
    assert leftovers(box) == ""


# ---------------------------------------------------------------- forms that differ from server to server

CHARS = """
CREATE TABLE chars (n int PRIMARY KEY, one "char", list "char"[], text text);
INSERT INTO chars SELECT n, n::"char", ARRAY[n::"char", 'a', NULL], U&'\\00e9 \\\\377'
FROM generate_series(-128, 127) n;
"""
AS_NUMBERS = "SELECT n, ascii(text), one::int, (SELECT array_agg(c::int) FROM unnest(list) c) FROM chars ORDER BY n"
MONEY = """
CREATE TABLE money (n int PRIMARY KEY, price money DEFAULT '12,50 €', prices money[]);
INSERT INTO money SELECT n, '1.234,50 €'::money * n, ARRAY['-0,05 €'::money] FROM generate_series(1, 9) n;
"""
GERMAN = "ALTER DATABASE euros SET lc_monetary = 'de_DE.UTF-8'"
CENTS = "SELECT n, (price / '0.01'::money)::bigint, (prices[1] / '0.01'::money)::bigint FROM money ORDER BY n"


@pytest.fixture(scope="module")
def forms(box: Appliance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Appliance, dict[str, str]]]:
    """A newer server without the locale of the money, and how the values are on the older one."""
    sql(box, "CREATE DATABASE utf; CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    for name in ("utf", "latin"):
        sql(box, CHARS, name)
    box.run(["localedef", "-i", "de_DE", "-f", "UTF-8", "de_DE.UTF-8"])
    box.stop("postgresql")
    box.start("postgresql")  # it looks for locales once
    sql(box, "CREATE DATABASE euros")
    sql(box, GERMAN)
    sql(box, MONEY, "euros")
    wanted = ["-pgsql:*", "pgsql:utf", "pgsql:latin", "pgsql:euros"]
    assert dump(box, "/root/values", overrides=wanted)["skipped"] == []
    values = {"utf": sql(box, AS_NUMBERS, "utf"), "latin": sql(box, AS_NUMBERS, "latin"), "euros": euros(box)}
    with database_clone("trixie", "postgresql", binds=TREE_INSIDE, hostname="b") as newer:
        newer.run(
            ["tar", "-C", "/root", "-xf", "-"], input=box.run(["tar", "-C", "/root", "-cf", "-", "values"]).stdout
        )
        yield newer, values


def euros(machine: Appliance) -> str:
    return sql(machine, f"SET lc_monetary = 'C'; {CENTS}; INSERT INTO money (n) VALUES (10) RETURNING price", "euros")


@pytest.mark.parametrize("name", ["utf", "latin"])
def test_char_above_127_comes_to_a_newer_server_and_is_no_difference(
    forms: tuple[Appliance, dict[str, str]], name: str
) -> None:
    newer, values = forms
    answer = load(newer, "/root/values", name)
    assert (answer["failed"], answer["skipped"], answer["notes"]) == (None, [], [])
    assert sql(newer, AS_NUMBERS, name) == values[name]


def test_money_is_the_same_amount_under_another_locale(forms: tuple[Appliance, dict[str, str]]) -> None:
    newer, values = forms
    answer = load(newer, "/root/values", "euros")
    assert (answer["failed"], answer["skipped"]) == (None, [])
    assert "de_DE.UTF-8" in str(answer["notes"]), "the locale is made"
    assert euros(newer) == values["euros"]
    assert values["euros"].endswith("\n$12.50\n")
