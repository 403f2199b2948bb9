"""Fill a running PostgreSQL server of the lab with every kind of content that a backup could lose.

Takes a box whose server is up (15 or newer); touches that server only, as its administrator `postgres`. Two fills
of two servers give the same content: nothing here is random or depends on the clock, large objects have fixed numbers.

    with clone("postgresql") as a:
        a.start("postgresql")
        fill(a)
        assert not (a.root / "tmp/pwned").exists()

What stock tools cannot bring back is planted on request only: `fill(a, risky=True)` adds `RISKY`, `plant_extension`
an extension whose configuration table has rows of the owner's.
"""

# ruff: noqa: E501 - a row or a definition a line

from __future__ import annotations

import base64
import hashlib
import hmac

from tests.lab.box import Box
from tests.lab.soak import some

# The program itself: what Debian has in the path is Perl that looks for it, which takes longer than most statements.
BARE_PSQL = ("sh", "-c", 'exec /usr/lib/postgresql/*/bin/psql "$@"', "psql")
PSQL = ("runuser", "-u", "postgres", "--", *BARE_PSQL, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")
EVERYTHING = "everything"
HOSTILE = "x\n\\! touch /tmp/pwned\n\\copy x to program 'touch /tmp/pwned'\n--"
PWNED = "tmp/pwned"  # below the box's root; there once any planted escape was obeyed

# Each is a database, which costs half a second of processor time a dump.
ODD_NAMES = (
    "slash/name",
    "slash_name",
    "it's",
    "new\nline",
    "gr\u00fc\u00dfe \u2713 \U0001f600",
    "..",
    "--help",
    "back\\slash\\",
    "Case",
    "case",
    "$HOME `id` $(id);&|<>",
    "postgresql://nowhere/x",
    HOSTILE[:63],
    *some(
        (
            "slash%2Fname",
            "space name",
            " spaces around ",
            'double"quote',
            "tab\tand\rreturn",
            "caf\u00e9",
            "cafe\u0301",
            "\u202eright to left",
            "100%s",
            ".",
            "dot.name",
            "-leading",
            "glob*?[a-z]{x}",
            "n" * 63,
            "\u00fc" * 31 + "n",
            "CASE",
            "host=/nowhere dbname=x",
            "all",
            "Postgres",
        ),
        6,
    ),
)


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def sql(box: Box, statements: str | bytes, database: str = "postgres") -> str:
    """Run statements as the administrator; gives what they print. The name travels where nothing is read into it.

    Time limits of a database count from the first statement on, the one that would lift them included.
    """
    options = "-c client_min_messages=error -c statement_timeout=0 -c lock_timeout=0"
    settings = {"PGDATABASE": database, "PGCLIENTENCODING": "UTF8", "PGOPTIONS": options}
    return str(box.run(PSQL, input=statements, env=settings).stdout)


def scram(password: str, salt: bytes) -> str:
    """A SCRAM-SHA-256 verifier (RFC 5803) that is the same every time."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    told = [base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server)]
    return f"SCRAM-SHA-256$4096:{told[0]}${told[1]}:{told[2]}"


def fill(box: Box, *, risky: bool = False) -> None:
    """Plant everything; takes some ten seconds and half a gigabyte of the box's disk or memory."""
    sql(box, roles())
    sql(box, "CREATE EXTENSION citext SCHEMA public; COMMENT ON EXTENSION citext IS 'ours';", "template1")
    sql(box, databases())
    for name in ODD_NAMES:
        sql(box, odd_content(name), name)
    sql(
        box,
        "CREATE TABLE accents (t text); INSERT INTO accents VALUES ('\u00e4\u00f6\u00fc \u00ff'), (E'\\\\.');",
        "latin1",
    )
    sql(box, b"SET client_encoding = SQL_ASCII;" + BYTES, "bytes")
    sql(box, ICU, "icu")
    sql(box, NO_PUBLIC, "no public")
    sql(box, PLAIN, "a template")
    sql(box, PLAIN, "closed")
    sql(box, "ALTER DATABASE closed ALLOW_CONNECTIONS false;")
    sql(box, PLAIN + "INSERT INTO plain VALUES (4, 'of the postgres database');", "postgres")
    sql(box, "SET default_transaction_read_only = off;" + PLAIN, "hard settings")
    for part in (SCHEMAS, TYPES, VALUES, FUNCTIONS, RELATIONS, CONSTRAINTS, VIEWS, TRIGGERS, FOREIGN, LARGE_OBJECTS):
        sql(box, part, EVERYTHING)
    sql(box, hostile_content(), EVERYTHING)
    sql(box, own_extension(), EVERYTHING)
    sql(box, GRANTS, EVERYTHING)
    sql(box, LAST, EVERYTHING)
    if risky:
        fill_risky(box)


def fill_risky(box: Box) -> None:
    """Databases of `RISKY`, and one that a DROP DATABASE left behind half: nobody can connect, only drop it."""
    for name, statements in RISKY.items():
        sql(box, f"CREATE DATABASE {ident(name)} TEMPLATE template0;")
        sql(box, statements, name)
    sql(box, "CREATE DATABASE half_dropped; UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half_dropped';")


def roles() -> str:
    odd = "".join(
        f"CREATE ROLE {ident('role ' + name if name in ('.', 'all') else name)}; "
        for name in (
            "a/b",
            "it's",
            'double"quote',
            "new\nline",
            "gr\u00fc\u00dfe",
            "100%s",
            "-leading",
            "back\\slash",
            "Case",
            "case",
        )
    )
    return f"""
{odd}
CREATE ROLE owner;
CREATE ROLE reader NOINHERIT;
CREATE ROLE writer;
CREATE ROLE alice LOGIN PASSWORD {literal(scram("alice's password", b"salt of alice..."))}
    VALID UNTIL '2038-01-19 03:14:07+00' CONNECTION LIMIT 3;
CREATE ROLE bob LOGIN CREATEDB CREATEROLE PASSWORD 'md5{hashlib.md5(b"passwordbob").hexdigest()}' VALID UNTIL 'infinity';
CREATE ROLE chief LOGIN SUPERUSER REPLICATION BYPASSRLS;
CREATE ROLE expired LOGIN VALID UNTIL '1999-12-31 23:59:59+00';
CREATE ROLE {ident(HOSTILE[:63])} LOGIN PASSWORD {literal(scram(HOSTILE, b"0123456789abcdef"))};
GRANT owner TO alice WITH ADMIN OPTION;
GRANT owner TO bob GRANTED BY alice;
GRANT reader TO owner;
GRANT writer TO owner WITH ADMIN OPTION;
GRANT writer TO "Case" GRANTED BY owner;
GRANT pg_read_all_data, pg_signal_backend TO reader;
GRANT alice TO "new
line";
COMMENT ON ROLE alice IS 'Alice''s role
\\! touch /tmp/pwned
second line \\. end';
COMMENT ON ROLE "new
line" IS 'odd';
COMMENT ON ROLE {ident(HOSTILE[:63])} IS {literal(HOSTILE)};
ALTER ROLE alice SET search_path = "Odd ""Schema"" too", public, '$user';
ALTER ROLE alice SET work_mem = '7MB';
ALTER ROLE alice SET app.motto = 'it''s
two lines \\ and %';
ALTER ROLE "new
line" SET datestyle = 'SQL, DMY';
ALTER ROLE ALL SET app.everyone = 'yes';
GRANT SET ON PARAMETER log_min_duration_statement TO alice;
GRANT SET, ALTER SYSTEM ON PARAMETER log_statement TO owner WITH GRANT OPTION;
GRANT ALTER SYSTEM ON PARAMETER app.made_up TO "it's";
"""


def databases() -> str:
    odd = "".join(f"CREATE DATABASE {ident(name)};\n" for name in ODD_NAMES)
    return f"""
{odd}
CREATE DATABASE {EVERYTHING} OWNER owner TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8' CONNECTION LIMIT 40;
CREATE DATABASE latin1 OWNER alice TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE icu TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' LOCALE 'C.UTF-8';
CREATE DATABASE mixed TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8';
CREATE DATABASE "no public" OWNER "new
line" TEMPLATE template0;
CREATE DATABASE "a template" OWNER "it's" IS_TEMPLATE true;
CREATE DATABASE closed;
CREATE DATABASE empty TEMPLATE template0;
CREATE DATABASE "hard settings" CONNECTION LIMIT 0;
ALTER DATABASE "case" OWNER TO "case";
ALTER DATABASE "Case" OWNER TO "Case";
COMMENT ON DATABASE {EVERYTHING} IS 'All of it,
\\! touch /tmp/pwned
''quoted'' and \\ more';
COMMENT ON DATABASE "slash/name" IS {literal(HOSTILE)};
COMMENT ON DATABASE "back\\slash\\" IS '\\.';
COMMENT ON DATABASE postgres IS NULL;
COMMENT ON DATABASE "a template" IS '';
REVOKE ALL ON DATABASE {EVERYTHING} FROM PUBLIC;
GRANT CONNECT ON DATABASE {EVERYTHING} TO reader WITH GRANT OPTION;
GRANT CREATE, TEMPORARY ON DATABASE {EVERYTHING} TO alice;
GRANT CREATE ON DATABASE postgres TO writer;
REVOKE TEMPORARY ON DATABASE "it's" FROM PUBLIC;
GRANT ALL ON DATABASE "new
line" TO {ident(HOSTILE[:63])};
ALTER DATABASE {EVERYTHING} SET search_path = app, public, "Odd ""Schema"" too";
ALTER DATABASE {EVERYTHING} SET timezone = 'Asia/Kathmandu';
ALTER DATABASE {EVERYTHING} SET datestyle = 'German, DMY';
ALTER DATABASE {EVERYTHING} SET intervalstyle = 'sql_standard';
ALTER DATABASE {EVERYTHING} SET bytea_output = 'escape';
ALTER DATABASE {EVERYTHING} SET extra_float_digits = -15;
ALTER DATABASE {EVERYTHING} SET app.motto = 'Don''t
panic \\! touch /tmp/pwned';
ALTER DATABASE "hard settings" SET default_transaction_read_only = on;
ALTER DATABASE "hard settings" SET statement_timeout = '1ms';
ALTER DATABASE "hard settings" SET lock_timeout = '1ms';
ALTER DATABASE "hard settings" SET standard_conforming_strings = off;
ALTER DATABASE "hard settings" SET client_encoding = 'LATIN1';
ALTER DATABASE "hard settings" SET default_table_access_method = 'heap';
ALTER DATABASE "hard settings" SET quote_all_identifiers = on;
ALTER DATABASE "hard settings" SET row_security = off;
ALTER DATABASE postgres SET work_mem = '5MB';
ALTER DATABASE "new
line" SET app.place = 'new
line';
ALTER ROLE alice IN DATABASE {EVERYTHING} SET work_mem = '9MB';
ALTER ROLE alice IN DATABASE {EVERYTHING} SET app.motto = '';
ALTER ROLE "new
line" IN DATABASE "new
line" SET statement_timeout = '3s';
ALTER ROLE postgres IN DATABASE "it's" SET search_path = 'nowhere';
"""


def odd_content(name: str) -> str:
    """What tells one oddly named database from the others."""
    told = literal(name)
    return f"""
SET search_path = public;
CREATE TABLE who (name text PRIMARY KEY, length int GENERATED ALWAYS AS (octet_length(name)) STORED);
INSERT INTO who (name) VALUES ({told});
COMMENT ON TABLE who IS {told};
CREATE VIEW {ident(name)} AS SELECT name AS {ident(name)} FROM who;
"""


PLAIN = """
CREATE TABLE plain (id int PRIMARY KEY, said text);
INSERT INTO plain VALUES (1, 'one'), (2, NULL), (3, '');
CREATE SCHEMA mine AUTHORIZATION alice;
CREATE TABLE mine.also (like plain INCLUDING ALL);
GRANT SELECT ON plain TO reader;
"""

# Bytes that are text in no encoding, in a name and in values.
BYTES = (
    b"CREATE TABLE \"na\xefve\" (id int PRIMARY KEY, t text DEFAULT 'd\xe9faut');"
    b"INSERT INTO \"na\xefve\" VALUES (1, 'caf\xe9'), (2, '\xff\xfe\x80'), (3, '\xc3\xa4 is valid');"
    b"COMMENT ON TABLE \"na\xefve\" IS 'na\xefve\xff';"
)

ICU = """
CREATE TABLE words (word text PRIMARY KEY, folded text COLLATE "de-x-icu", plain text COLLATE "C");
INSERT INTO words SELECT w, w, w FROM unnest(ARRAY['Zoo', '\u00c4pfel', 'Apfel', 'Aepfel', 'stra\u00dfe', 'STRASSE']) AS w;
CREATE COLLATION numeric_order (provider = icu, locale = 'en-u-kn-true');
CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE INDEX ON words (plain COLLATE numeric_order DESC);
CREATE TABLE blindly (t text COLLATE blind UNIQUE);
INSERT INTO blindly VALUES ('Caf\u00e9'), ('tea');
COMMENT ON COLLATION blind IS 'sees no case';
"""

NO_PUBLIC = """
DROP SCHEMA public;
CREATE SCHEMA lonely AUTHORIZATION "it's";
CREATE TABLE lonely.one (a int);
INSERT INTO lonely.one VALUES (1), (1), (NULL);
"""

SCHEMAS = r"""
CREATE SCHEMA app AUTHORIZATION owner;
CREATE SCHEMA "Odd ""Schema"" too" AUTHORIZATION "new
line";
CREATE SCHEMA "slash/schema'with\all";
CREATE SCHEMA "extensions" AUTHORIZATION alice;
CREATE SCHEMA "nothing in it";
COMMENT ON SCHEMA app IS 'the application';
COMMENT ON SCHEMA public IS NULL;
ALTER SCHEMA public OWNER TO alice;
CREATE EXTENSION hstore SCHEMA extensions;
CREATE EXTENSION pgcrypto SCHEMA extensions;
CREATE EXTENSION citext SCHEMA extensions;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION btree_gist SCHEMA extensions;
CREATE EXTENSION ltree;
CREATE EXTENSION intarray SCHEMA extensions;
CREATE EXTENSION "uuid-ossp";
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION file_fdw;
CREATE EXTENSION unaccent;
CREATE EXTENSION lo;
CREATE EXTENSION isn;
CREATE EXTENSION cube;
CREATE EXTENSION earthdistance;
CREATE EXTENSION pg_stat_statements SCHEMA "slash/schema'with\all";
COMMENT ON EXTENSION hstore IS 'keys and values, ours';
CREATE FUNCTION app.handler_of_ours() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION app.inline_of_ours(internal) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_inline_handler';
CREATE TRUSTED LANGUAGE plpgsql_of_ours HANDLER app.handler_of_ours INLINE app.inline_of_ours;
COMMENT ON LANGUAGE plpgsql_of_ours IS 'a second one';
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA app GRANT SELECT ON TABLES TO reader;
ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT USAGE ON SEQUENCES TO writer WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE alice GRANT USAGE ON SCHEMAS TO bob;
ALTER DEFAULT PRIVILEGES FOR ROLE "new
line" REVOKE ALL ON TYPES FROM PUBLIC;
"""

TYPES = r"""
SET search_path = app, extensions, public;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s', 'new
line', 'gone?');
ALTER TYPE mood ADD VALUE 'between' BEFORE 'ok';
ALTER TYPE mood RENAME VALUE 'gone?' TO '\.';
CREATE TYPE empty_enum AS ENUM ();
CREATE TYPE pair AS (x int, "y y" text COLLATE "C");
CREATE TYPE nothing AS ();
CREATE DOMAIN positive AS numeric(10,2) DEFAULT 1 NOT NULL CONSTRAINT is_positive CHECK (VALUE > 0)
    CONSTRAINT "is it's small" CHECK (VALUE < 1e6);
ALTER DOMAIN positive ADD CONSTRAINT later CHECK (VALUE <> 13) NOT VALID;
CREATE DOMAIN over_domain AS positive CHECK (VALUE < 5000);
CREATE DOMAIN moods AS mood[] CHECK (cardinality(VALUE) < 5);
CREATE FUNCTION span(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 - $2';
CREATE TYPE floats AS RANGE (subtype = float8, subtype_diff = span, multirange_type_name = floats_multi);
CREATE TYPE shell_only;
CREATE TYPE "Odd ""Schema"" too"."odd type" AS (a mood, b pair[], c positive);
ALTER TYPE "Odd ""Schema"" too"."odd type" OWNER TO "new
line";
ALTER TYPE mood OWNER TO owner;
ALTER DOMAIN positive OWNER TO alice;
COMMENT ON TYPE mood IS 'how we feel';
COMMENT ON DOMAIN positive IS 'more than nothing';
COMMENT ON CONSTRAINT is_positive ON DOMAIN positive IS 'really';
COMMENT ON COLUMN pair."y y" IS 'a column of a type';
CREATE FUNCTION base_in(cstring) RETURNS base LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION base_out(base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE base (INPUT = base_in, OUTPUT = base_out, LIKE = text, CATEGORY = 'S', DELIMITER = ';');
CREATE COLLATION by_bytes (provider = libc, locale = 'C');
CREATE COLLATION phonebook (provider = icu, locale = 'de-u-co-phonebk');
ALTER COLLATION phonebook OWNER TO alice;
CREATE TEXT SEARCH DICTIONARY stops (TEMPLATE = pg_catalog.simple, STOPWORDS = 'german', ACCEPT = false);
CREATE TEXT SEARCH CONFIGURATION ours (COPY = pg_catalog.german);
ALTER TEXT SEARCH CONFIGURATION ours ALTER MAPPING FOR asciiword, word WITH stops, german_stem, simple;
ALTER TEXT SEARCH CONFIGURATION ours DROP MAPPING FOR url;
ALTER TEXT SEARCH CONFIGURATION ours OWNER TO owner;
CREATE TEXT SEARCH PARSER parser_of_ours (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
    LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
CREATE TEXT SEARCH TEMPLATE template_of_ours (INIT = dsimple_init, LEXIZE = dsimple_lexize);
COMMENT ON TEXT SEARCH CONFIGURATION ours IS 'German, ours';
COMMENT ON TEXT SEARCH DICTIONARY stops IS 'stop';
CREATE CONVERSION latin_of_ours FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
COMMENT ON CONVERSION latin_of_ours IS 'conversion';
CREATE ACCESS METHOD heap_of_ours TYPE TABLE HANDLER heap_tableam_handler;
COMMENT ON ACCESS METHOD heap_of_ours IS 'heap again';
"""

VALUES = r"""
SET search_path = app, extensions, public;
SET datestyle = 'ISO, MDY'; SET timezone = 'UTC'; SET intervalstyle = 'postgres';
CREATE TABLE numbers (id int PRIMARY KEY, s smallint, i int, b bigint, n numeric, n2 numeric(8,-2), n3 numeric(5,5),
    f4 float4, f8 float8, m money, o oid, x xid, flag bool, ch "char", na name);
INSERT INTO numbers VALUES
 (1, -32768, -2147483648, -9223372036854775808, 'NaN', 123456, 0.12345, 'NaN', 'NaN', '-92233720368547758.08', 0, '0', true, 'a', 'n'),
 (2, 32767, 2147483647, 9223372036854775807, 'Infinity', -50, -0.99999, 'Infinity', '-Infinity', '92233720368547758.07', 4294967295, '4294967295', false, '\', ''),
 (3, 0, 0, 0, '-Infinity', 0, 0, '-0', '-0', '0', 1, '3', NULL, '', NULL),
 (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (5, 1, 1, 1, 1e-16383, 1, 0.1, 3.4028235e38, 1.7976931348623157e308, 1.5, 5, '5', true, 'ä', 'ü'),
 (6, 1, 1, 1, 1.000000000000000000000000000000000000000000010, 1, 0.1, 1e-45, 5e-324, 1.5, 5, '5', true, 'z', '\.'),
 (7, 1, 1, 1, 0.000, 1, 0.1, 0.1, 0.30000000000000004, 1.5, 5, '5', true, E'\n', E'\t');
INSERT INTO numbers (id, n) SELECT 8, repeat('9', 1000)::numeric + 0.5;
CREATE TABLE other_floats (f float8 PRIMARY KEY);
INSERT INTO other_floats VALUES (0.3);
CREATE TABLE moments (id int PRIMARY KEY, t timestamp, tz timestamptz, d date, ti time, titz timetz, iv interval,
    t0 timestamp(0), iv2 interval day to second(2));
INSERT INTO moments VALUES
 (1, 'infinity', 'infinity', 'infinity', '00:00', '00:00+15:59', '178000000 years', 'infinity', '1 day'),
 (2, '-infinity', '-infinity', '-infinity', '24:00', '24:00-15:59', '-178000000 years', '-infinity', '-1 day'),
 (3, '4714-11-24 00:00:00 BC', '4714-11-24 00:00:00+00 BC', '4714-11-24 BC', '23:59:59.999999', '12:34:56.789+05:45',
  '1 year -2 mons 3 days -04:05:06.789', '0001-01-01 BC', '1 day 00:00:01.25'),
 (4, '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', '5874897-12-31', '12:00', '12:00+00',
  '00:00:00.000001', '1582-10-10', '0'),
 (5, '2024-03-31 02:30:00', '2024-10-27 02:30:00+01', '2024-02-29', NULL, NULL, '0', NULL, NULL);
CREATE TABLE texts (id int PRIMARY KEY, t text, v varchar(20), c char(10), b bytea, x xml, j json, jb jsonb, h hstore,
    ci citext, co text COLLATE phonebook);
INSERT INTO texts (id, t, v, c) VALUES
 (1, '', '', ''), (2, NULL, NULL, NULL), (3, '\.', '\.', '\.'), (4, '\N', '\N', '\N'), (5, E'tab\there', E'\t', E'\t'),
 (6, E'new\nline\r\nand return\r', E'\n', E'a\n'), (7, E'back\\slash \\n \\134 \\', '\', '\'), (8, E'\b\f\x0b\x01\x7f', ' ', ' '),
 (9, 'NULL', 'NULL', 'null'), (10, E'\n\\.\n\\! touch /tmp/pwned\n', E'\n\\.\n', 'x'), (11, 'ä€😀 é é', 'ä€😀', 'ä€😀'),
 (12, '; DROP TABLE app.texts; --', $$'"$$, '$$'), (13, ' trailing ', 'trailing  ', 'trailing'), (14, '"', '''', '{}');
INSERT INTO texts (id, t) SELECT 20, string_agg(md5(i::text), '') FROM generate_series(1, 4000) i;
INSERT INTO texts (id, t) SELECT 21, repeat('compressible ', 100000);
INSERT INTO texts (id, b) SELECT 22, decode(string_agg(lpad(to_hex(i), 2, '0'), ''), 'hex') FROM generate_series(0, 255) i;
INSERT INTO texts (id, b) VALUES (23, ''), (24, '\x00'), (25, '\x5c2e'), (26, '\x5c4e0a');
INSERT INTO texts (id, x) VALUES (27, '<a b="1">&amp;<!-- c --><![CDATA[ ]]></a>'), (28, '<?xml version="1.0"?><x/>'), (29, 'content only');
INSERT INTO texts (id, j, jb) VALUES (30, '{"b": 1, "a" :  [1.0, 1e400, null, "\u0041\n"], "a": 2}', '{"b": 1, "a": [1.0, 12345678901234567890.12, null, "A\n\\."]}'),
 (31, 'null', 'null'), (32, '"\\."', '"\\."'), (33, ' [ ] ', '{}');
INSERT INTO texts (id, h, ci, co) VALUES (34, 'a=>1, "b b"=>NULL, "\"c\""=>"\\."', 'MiXed', 'Ärger'), (35, '', '', 'Aerger');
CREATE TABLE others (id int PRIMARY KEY, u uuid, i inet, ci cidr, m macaddr, m8 macaddr8, bi bit(5), vb varbit, tv tsvector, tq tsquery,
    p point, li line, ls lseg, bo box, pa path, pa2 path, po polygon, circ circle, l pg_lsn, jp jsonpath, tree ltree, cu cube,
    isbn isbn13, ts txid_snapshot, tid tid, aclitem aclitem);
INSERT INTO others VALUES
 (1, '00000000-0000-0000-0000-000000000000', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10101', B'', 'a:1A fat:2B,4C ''it''''s'':5 ''\\'':6', 'fat & (rat | !cat:AB) <-> "x"',
  '(NaN,Infinity)', '{1,-2,3}', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '((0,0),(1,1),(2,0))', '<(0.1,-0),3>', 'FFFFFFFF/FFFFFFFF', '$."a b"[*] ? (@ > 1)', 'a.b.c', '(1,2),(3,4)',
  '978-0-393-04002-9', '10:20:10,14,15', '(0,1)', 'alice=r/owner'),
 (2, 'ffffffff-ffff-ffff-ffff-ffffffffffff', '255.255.255.255', '::/0', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff', B'00000', B'1', '', '', '(0,-0)', '{0,1,0}', '[(1e300,0),(1,1)]', '(0,0),(0,0)', '[(0,0)]', '((0,0))', '((0,0))', '<(0,0),0>', '0/0', 'strict $', '', '(0)', NULL, NULL, NULL, NULL),
 (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE manifold (id int PRIMARY KEY, a int[], t text[], tt text[][], m mood, ms moods, p pair, pp pair[], d positive DEFAULT 2, od over_domain DEFAULT 3,
    ir int4range, ir8 int8range, nr numrange, dr daterange, tr tstzrange, im int4multirange, nm nummultirange, fr floats, fm floats_multi, bs base, nothing nothing);
INSERT INTO manifold (id, a, t, tt, m, ms, p, pp, d) VALUES
 (1, '{}', '{}', '{}', 'sad', '{}', '(,)', '{}', 0.01),
 (2, '{1,NULL,3}', '{NULL,"NULL","",",","\"","\\","{}","\\."," "}', '{{a,b},{c,NULL}}', '\.', '{ok,sad,"it''s"}', '(1,"a ""b"" \\ ,")', '{"(1,x)",NULL,"(,\"\")"}', 999999.99),
 (3, '[0:2]={7,8,9}', E'{"new\nline","tab\there"}', '[2:3][-1:0]={{a,b},{c,d}}', 'new
line', NULL, NULL, NULL, 42), (4, '{{{1,2},{3,4}},{{5,6},{7,8}}}', NULL, NULL, 'between', '{between,NULL}', '(,"")', '{NULL}', 1);
INSERT INTO manifold (id, ir, ir8, nr, dr, tr, im, nm, fr, fm, bs, nothing) VALUES
 (5, 'empty', '(,)', '(-Infinity,Infinity]', '[infinity,]', '["4714-11-24 00:00:00+00 BC",)', '{}', '{(,1),[2.50,3),(5,)}', '[-0,NaN)', '{[1,2),[3,4]}', 'base text', ROW()),
 (6, '[1,10)', '[1,1]', '(1.0,1.00]', '[2024-01-01,2024-02-29]', NULL, '{[1,2),[5,7)}', NULL, NULL, NULL, '', NULL);
CREATE TABLE names_of_things (c regclass, p regprocedure, o regoperator, t regtype, r regrole, n regnamespace, ts regconfig, co regcollation);
INSERT INTO names_of_things VALUES ('app.texts', 'app.span(float8,float8)', '+(integer,integer)', 'app.mood', 'alice', 'app', 'app.ours', 'app.phonebook'),
 ('pg_class', 'now()', '-(none,integer)', 'integer[]', '"it''s"', '"Odd ""Schema"" too"', 'english', '"C"'), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
"""

FUNCTIONS = r"""
SET search_path = app, extensions, public;
CREATE FUNCTION plus_one(int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE LEAKPROOF COST 3 AS 'SELECT $1 + 1';
CREATE FUNCTION atomic(a int, b int DEFAULT 7) RETURNS int LANGUAGE sql STABLE BEGIN ATOMIC SELECT a + b; SELECT a * plus_one(b); END;
CREATE FUNCTION by_return(a int) RETURNS int LANGUAGE sql RETURN a + 1;
CREATE FUNCTION guarded(INOUT who text, OUT "out put" int) LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp SET work_mem = '6MB' AS $body$
/*
\! touch /tmp/pwned
\restrict abcdef
*/
BEGIN
-- Name: fake; Type: TABLE; Schema: app; Owner: postgres
    "out put" := length(who); -- $fake$ ' "
/*
\unrestrict abcdef
\connect template1
\.
*/
END $body$;
CREATE FUNCTION many(VARIADIC things text[] DEFAULT '{}') RETURNS SETOF text LANGUAGE plpgsql ROWS 17 AS $$ BEGIN RETURN QUERY SELECT unnest(things); END $$;
CREATE FUNCTION poly(a anyelement, b anyarray DEFAULT NULL) RETURNS anyelement LANGUAGE sql CALLED ON NULL INPUT AS 'SELECT $1';
CREATE FUNCTION poly(a anycompatible, b anycompatiblerange) RETURNS anycompatible LANGUAGE sql STRICT AS 'SELECT $1';
CREATE FUNCTION rows_of(OUT a int, OUT b text) RETURNS SETOF record LANGUAGE sql AS $$ VALUES (1, 'x'), (2, '$q$') $$;
CREATE FUNCTION as_table("a a" int) RETURNS TABLE (x int, y text) LANGUAGE sql AS $$ SELECT 1, 'y' $$;
CREATE FUNCTION "odd "" name (int)"("arg ""1"" x" text DEFAULT E'it''s\n\\.') RETURNS void LANGUAGE sql AS $_$ SELECT '$$ $function$ ''' $_$;
CREATE PROCEDURE proc(INOUT a int, b text DEFAULT 'x') LANGUAGE plpgsql AS $$ BEGIN a := a + 1; COMMIT; END $$;
CREATE FUNCTION broken() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT nothing FROM no_such_table); END $$;
CREATE FUNCTION windowed() RETURNS bigint LANGUAGE internal WINDOW AS 'window_row_number';
CREATE FUNCTION of_ours() RETURNS int LANGUAGE plpgsql_of_ours AS $$ BEGIN RETURN 1; END $$;
ALTER FUNCTION guarded(text) OWNER TO owner;
ALTER FUNCTION plus_one(int) OWNER TO alice;
ALTER PROCEDURE proc(int, text) OWNER TO "new
line";
COMMENT ON FUNCTION plus_one(int) IS 'one more';
COMMENT ON PROCEDURE proc(int, text) IS E'a procedure\n\\! touch /tmp/pwned';
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '100', COMBINEFUNC = int4pl, PARALLEL = SAFE, MSFUNC = int4pl, MINVFUNC = int4mi, MSTYPE = int, MINITCOND = '0');
CREATE AGGREGATE share(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
COMMENT ON AGGREGATE total(int) IS 'sum and a hundred';
ALTER AGGREGATE total(int) OWNER TO alice;
CREATE FUNCTION apart(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT abs($1 - $2)';
CREATE OPERATOR <~> (LEFTARG = int, RIGHTARG = int, FUNCTION = apart, COMMUTATOR = <~>);
CREATE OPERATOR !! (RIGHTARG = text, FUNCTION = length);
CREATE FUNCTION near(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT abs($1 - $2) < 2';
CREATE FUNCTION far(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT abs($1 - $2) >= 2';
CREATE OPERATOR ~= (LEFTARG = int, RIGHTARG = int, FUNCTION = near, COMMUTATOR = ~=, NEGATOR = !~=, RESTRICT = eqsel, JOIN = eqjoinsel);
CREATE OPERATOR !~= (LEFTARG = int, RIGHTARG = int, FUNCTION = far, COMMUTATOR = !~=, NEGATOR = ~=);
ALTER OPERATOR <~> (int, int) OWNER TO alice;
COMMENT ON OPERATOR <~> (int, int) IS 'distance';
CREATE FUNCTION backwards(int, int) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT btint4cmp($2, $1)';
CREATE OPERATOR FAMILY reverse_family USING btree;
CREATE OPERATOR CLASS reverse_ops FOR TYPE int USING btree FAMILY reverse_family AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 backwards(int, int);
ALTER OPERATOR FAMILY reverse_family USING btree OWNER TO owner;
ALTER OPERATOR CLASS reverse_ops USING btree OWNER TO alice;
COMMENT ON OPERATOR CLASS reverse_ops USING btree IS 'downwards';
COMMENT ON OPERATOR FAMILY reverse_family USING btree IS 'family';
CREATE FUNCTION to_mood(int) RETURNS mood LANGUAGE sql IMMUTABLE AS $$ SELECT (enum_range(NULL::app.mood))[$1] $$;
CREATE CAST (int AS mood) WITH FUNCTION to_mood(int) AS ASSIGNMENT;
CREATE CAST (mood AS text) WITH INOUT AS IMPLICIT;
CREATE CAST (base AS text) WITHOUT FUNCTION;
COMMENT ON CAST (int AS mood) IS 'by number';
CREATE FUNCTION from_sql(internal) RETURNS internal LANGUAGE internal IMMUTABLE STRICT AS 'varchar_support';
CREATE TRANSFORM FOR int LANGUAGE plpgsql_of_ours (FROM SQL WITH FUNCTION from_sql(internal));
COMMENT ON TRANSFORM FOR int LANGUAGE plpgsql_of_ours IS 'a transform';
CREATE FUNCTION normal(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(btrim($1)) $$;
CREATE FUNCTION short(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN length($1) < 30; END $$;
"""

RELATIONS = r"""
SET search_path = app, extensions, public;
CREATE TABLE counted (id bigint GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 5 MAXVALUE 1000 CYCLE), other int GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME app."odd seq'"), t text);
INSERT INTO counted (t) SELECT 'row ' || i FROM generate_series(1, 7) i;
CREATE TABLE serials (id serial PRIMARY KEY, small smallserial, big bigserial, t text DEFAULT 'it''s' || E'\n');
INSERT INTO serials (t) VALUES ('a'), ('b'), ('c');
DELETE FROM serials WHERE t = 'c';
ALTER TABLE counted OWNER TO owner;
CREATE SEQUENCE alone START 100 MINVALUE -5 INCREMENT -3 MAXVALUE 100 CYCLE CACHE 4;
SELECT nextval('alone'), nextval('alone');
CREATE SEQUENCE untouched START 42;
CREATE SEQUENCE at_the_end; SELECT setval('at_the_end', 9223372036854775807, true);
CREATE SEQUENCE set_not_called; SELECT setval('set_not_called', 77, false);
CREATE UNLOGGED SEQUENCE forgetful AS smallint;
CREATE SEQUENCE belongs OWNED BY serials.t;
ALTER SEQUENCE alone OWNER TO alice;
COMMENT ON SEQUENCE alone IS 'backwards';
CREATE TABLE computed (a int, b text, c int GENERATED ALWAYS AS (a * 2) STORED, d text GENERATED ALWAYS AS (upper(b)) STORED, e int DEFAULT 5);
INSERT INTO computed (a, b) VALUES (1, 'x'), (NULL, NULL), (-3, 'ß');
CREATE TABLE dropped (gone int, a int, "........pg.dropped.9........" text, also_gone text, z int DEFAULT 3);
INSERT INTO dropped VALUES (1, 2, 'x', 'y', 4);
ALTER TABLE dropped DROP COLUMN gone, DROP COLUMN also_gone;
ALTER TABLE dropped ADD COLUMN added_fast text DEFAULT 'fast' NOT NULL;
INSERT INTO dropped VALUES (5, 'y', 6, 'slow');
CREATE TABLE heap (a int, b text);
INSERT INTO heap VALUES (1, 'same'), (1, 'same'), (1, 'same'), (NULL, NULL), (NULL, NULL), (2, '');
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE empty_one (a int);
CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY); INSERT INTO unlogged VALUES (1), (2);
CREATE TABLE tuned (a int, wide text COMPRESSION pglz, t text) WITH (fillfactor = 50, autovacuum_enabled = false, toast.autovacuum_enabled = false, parallel_workers = 3);
ALTER TABLE tuned ALTER wide SET STORAGE EXTERNAL, ALTER a SET STATISTICS 500, ALTER t SET (n_distinct = -0.5, n_distinct_inherited = 7);
CREATE TABLE other_method (a int) USING heap_of_ours; INSERT INTO other_method VALUES (1);
CREATE TABLE of_type OF pair (x WITH OPTIONS PRIMARY KEY, "y y" DEFAULT 'typed'); INSERT INTO of_type VALUES (1, 'a');
CREATE TABLE hidden (a int, "oid" int, "select" text, "UPPER" int, "é" int, "%s" text, "a.b" int, "sp ace" int); INSERT INTO hidden VALUES (1, 2, 'x', 3, 4, '%', 5, 6);

CREATE TABLE measured (at date NOT NULL, region text NOT NULL, v int, id int GENERATED ALWAYS AS (v + 1) STORED) PARTITION BY RANGE (at);
CREATE TABLE measured_old PARTITION OF measured FOR VALUES FROM (MINVALUE) TO ('2000-01-01');
CREATE TABLE measured_new PARTITION OF measured FOR VALUES FROM ('2000-01-01') TO ('infinity') PARTITION BY LIST (region);
CREATE TABLE measured_eu PARTITION OF measured_new FOR VALUES IN ('de', 'it''s') PARTITION BY HASH (v);
CREATE TABLE measured_eu_0 PARTITION OF measured_eu FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE "measured/eu 1" PARTITION OF measured_eu FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE measured_none PARTITION OF measured_new FOR VALUES IN ('none');
CREATE TABLE measured_rest PARTITION OF measured_new DEFAULT;
CREATE TABLE measured_default PARTITION OF measured DEFAULT;
CREATE TABLE by_expression (a text, b int) PARTITION BY RANGE (lower(a) COLLATE "C", (b % 10));
CREATE TABLE by_expression_1 PARTITION OF by_expression FOR VALUES FROM ('a', MINVALUE) TO ('m', MAXVALUE);
CREATE TABLE empty_partitioned (a int) PARTITION BY LIST (a);
CREATE TABLE joined_late (v int, k int);
CREATE TABLE late_parent (v int, k int) PARTITION BY LIST (k);
INSERT INTO joined_late VALUES (1, 2);
ALTER TABLE late_parent ATTACH PARTITION joined_late FOR VALUES IN (2);
INSERT INTO by_expression VALUES ('Bob', 13);
INSERT INTO measured SELECT d, r, v FROM unnest(ARRAY['1500-05-05', '2001-01-01', '2020-02-02', 'infinity']::date[]) d, unnest(ARRAY['de', 'it''s', 'none', 'fr']) r, generate_series(1, 5) v;
ALTER TABLE "measured/eu 1" OWNER TO alice;
CREATE INDEX measured_by_v ON measured (v, at DESC NULLS LAST);
CREATE INDEX measured_on_parent_only ON ONLY measured (region);
ALTER TABLE measured_old ALTER v SET DEFAULT 99;
CREATE TABLE parent (id int PRIMARY KEY, t text DEFAULT 'p' CHECK (t <> 'never'), CONSTRAINT just_parent CHECK (id > -100) NO INHERIT);
CREATE TABLE second_parent (id int, extra int);
CREATE TABLE child (own text) INHERITS (parent, second_parent);
CREATE TABLE grandchild () INHERITS (child);
ALTER TABLE child ALTER t SET DEFAULT 'c';
INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (1, 'c', 7, 'own'), (2, 'c', 8, NULL); INSERT INTO grandchild VALUES (-1000, 'g', 9, 'x');
"""

CONSTRAINTS = r"""
SET search_path = app, extensions, public;
CREATE TABLE customers (id int CONSTRAINT "customers pk" PRIMARY KEY, name text NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED, favourite int, boss int REFERENCES customers ON DELETE SET NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, note text, UNIQUE NULLS NOT DISTINCT (note, customer), FOREIGN KEY (customer) REFERENCES customers ON UPDATE CASCADE ON DELETE RESTRICT DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE customers ADD CONSTRAINT "favourite order's" FOREIGN KEY (favourite) REFERENCES orders MATCH FULL DEFERRABLE INITIALLY IMMEDIATE;
BEGIN; SET CONSTRAINTS ALL DEFERRED;
INSERT INTO customers VALUES (1, 'a', 10, 2), (2, 'b', 11, 1), (3, 'c', NULL, 3);
INSERT INTO orders VALUES (10, 2, 'x'), (11, 1, NULL), (12, 3, NULL);
COMMIT;
CREATE TABLE wide_key (a int, b int, c text, PRIMARY KEY (a, b) INCLUDE (c));
CREATE TABLE wide_reference (a int, b int, FOREIGN KEY (a, b) REFERENCES wide_key (a, b) ON DELETE SET NULL (b));
INSERT INTO wide_key VALUES (1, 1, 'x'); INSERT INTO wide_reference VALUES (1, 1), (1, NULL);
CREATE TABLE dirty (a int, b int);
INSERT INTO dirty VALUES (-1, 999), (5, 1);
ALTER TABLE dirty ADD CONSTRAINT not_valid_check CHECK (a > 0) NOT VALID, ADD CONSTRAINT not_valid_key FOREIGN KEY (b) REFERENCES customers NOT VALID;
CREATE TABLE booked (room int, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (room > 0), CONSTRAINT "excl def" EXCLUDE USING btree (room WITH =, during WITH =) DEFERRABLE);
INSERT INTO booked VALUES (1, '[2024-01-01,2024-01-02)'), (1, '[2024-01-02,2024-01-03)'), (-1, '[2024-01-01,2024-01-02)');
CREATE TABLE indexed (id int PRIMARY KEY, t text, n int, r int4range, j jsonb, ts tsvector, a int[], p point);
INSERT INTO indexed SELECT i, 'text ' || i, i % 7, int4range(i, i + 5), jsonb_build_object('k', i), to_tsvector('english', 'word' || i), ARRAY[i, i + 1], point(i, -i) FROM generate_series(1, 200) i;
CREATE INDEX ix_partial ON indexed (n) WHERE n > 3 AND t <> 'it''s';
CREATE INDEX ix_expression ON indexed (lower(t), (n * 2) DESC NULLS FIRST);
CREATE INDEX ix_function ON indexed (normal(t));
ALTER TABLE indexed ADD CONSTRAINT is_short CHECK (short(t));
CREATE UNIQUE INDEX ix_covering ON indexed (id) INCLUDE (t, n);
CREATE UNIQUE INDEX ix_distinct ON indexed (id, n) NULLS NOT DISTINCT;
CREATE INDEX ix_brin ON indexed USING brin (id int4_minmax_multi_ops (values_per_range = 16)) WITH (pages_per_range = 4);
CREATE INDEX ix_gin ON indexed USING gin (j jsonb_path_ops) WITH (fastupdate = off);
CREATE INDEX ix_gin_ts ON indexed USING gin (ts);
CREATE INDEX ix_trigram ON indexed USING gist (t gist_trgm_ops (siglen = 32));
CREATE INDEX ix_gist ON indexed USING gist (r, p);
CREATE INDEX ix_spgist ON indexed USING spgist (p);
CREATE INDEX ix_hash ON indexed USING hash (t);
CREATE INDEX ix_reverse ON indexed (n reverse_ops);
CREATE INDEX ix_collated ON indexed (t COLLATE phonebook text_pattern_ops);
CREATE INDEX "ix it's
odd" ON indexed (n) WITH (fillfactor = 40);
ALTER INDEX ix_expression ALTER COLUMN 2 SET STATISTICS 300;
COMMENT ON INDEX "ix it's
odd" IS E'odd\n\\! touch /tmp/pwned';
COMMENT ON CONSTRAINT is_short ON indexed IS 'short';
ALTER TABLE indexed CLUSTER ON ix_expression;
ALTER TABLE indexed REPLICA IDENTITY FULL;
CREATE TABLE replicated (a int NOT NULL, b int NOT NULL);
CREATE UNIQUE INDEX replicated_identity ON replicated (b);
ALTER TABLE replicated REPLICA IDENTITY USING INDEX replicated_identity;
ALTER TABLE heap REPLICA IDENTITY NOTHING;
CREATE STATISTICS st_all (ndistinct, dependencies, mcv) ON n, t FROM indexed;
CREATE STATISTICS "st it's" ON (n * 2), lower(t) FROM indexed;
ALTER STATISTICS st_all SET STATISTICS 77;
ALTER STATISTICS st_all OWNER TO alice;
COMMENT ON STATISTICS st_all IS 'together';
CREATE TABLE secured (id int PRIMARY KEY, who name DEFAULT current_user, secret text);
INSERT INTO secured VALUES (1, 'alice', 'a'), (2, 'bob', 'b'), (3, 'postgres', 'p');
ALTER TABLE secured OWNER TO alice;
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
ALTER TABLE secured FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON secured USING (who = current_user);
CREATE POLICY "no b's" ON secured AS RESTRICTIVE FOR SELECT TO reader, "it's" USING (secret <> 'b');
CREATE POLICY ins ON secured FOR INSERT TO PUBLIC WITH CHECK (id > 0 AND EXISTS (SELECT FROM app.orders));
CREATE POLICY upd ON secured FOR UPDATE TO bob USING (true) WITH CHECK (who = 'bob');
COMMENT ON POLICY own ON secured IS 'yours';
CREATE TABLE policy_unused (a int);
CREATE POLICY sleeping ON policy_unused FOR DELETE USING (a = 1);
CREATE TABLE secured_silent (a int); INSERT INTO secured_silent VALUES (1);
ALTER TABLE secured_silent ENABLE ROW LEVEL SECURITY;
"""

VIEWS = r"""
SET search_path = app, extensions, public;
CREATE VIEW simple AS SELECT id, name AS "Na me" FROM customers WHERE id < 100 WITH LOCAL CHECK OPTION;
CREATE VIEW cascaded WITH (security_barrier) AS SELECT * FROM simple WHERE id > 0 WITH CASCADED CHECK OPTION;
CREATE VIEW invoker WITH (security_invoker = true) AS SELECT s.*, o.note FROM simple s LEFT JOIN orders o ON o.customer = s.id;
CREATE RECURSIVE VIEW counting (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counting WHERE n < 5;
CREATE VIEW no_columns_view AS SELECT FROM customers;
CREATE VIEW uses_function AS SELECT plus_one(id), many('a', 'b') AS m, (guarded('x')).who, 'a' <-> 'b' AS distance FROM customers;
CREATE VIEW grouped AS SELECT id, name, count(*) FILTER (WHERE id > 1) OVER w FROM customers GROUP BY id WINDOW w AS (PARTITION BY id);
CREATE VIEW with_default AS SELECT id, name FROM customers;
ALTER VIEW with_default ALTER name SET DEFAULT 'default of a view';
CREATE VIEW loop_a AS SELECT 1 AS a;
CREATE VIEW loop_b AS SELECT a FROM loop_a;
CREATE OR REPLACE VIEW loop_a AS SELECT 1 AS a WHERE false;
CREATE VIEW catalogue AS SELECT relname FROM pg_class;
ALTER VIEW simple OWNER TO alice;
COMMENT ON VIEW simple IS 'simple';
COMMENT ON COLUMN simple."Na me" IS 'a name';
CREATE MATERIALIZED VIEW kept WITH (fillfactor = 70) AS SELECT n, count(*) AS c FROM indexed GROUP BY n;
CREATE UNIQUE INDEX ON kept (n);
CREATE MATERIALIZED VIEW kept_of_kept AS SELECT max(c) AS m FROM kept, counting;
CREATE MATERIALIZED VIEW not_kept AS SELECT * FROM orders WITH NO DATA;
CREATE MATERIALIZED VIEW kept_heap AS SELECT a FROM heap;
ALTER MATERIALIZED VIEW kept OWNER TO alice;
COMMENT ON MATERIALIZED VIEW kept IS 'kept';
CREATE TABLE ruled (a int, b text);
CREATE TABLE ruled_log (a int, b text);
CREATE RULE also_log AS ON INSERT TO ruled DO ALSO INSERT INTO ruled_log VALUES (new.a, 'it''s ' || new.b);
CREATE RULE "never delete" AS ON DELETE TO ruled WHERE old.a > 10 DO INSTEAD NOTHING;
CREATE RULE view_insert AS ON INSERT TO loop_b DO INSTEAD (INSERT INTO ruled VALUES (new.a, 'v'); INSERT INTO ruled_log VALUES (new.a));
INSERT INTO ruled VALUES (1, 'x'), (11, 'y');
ALTER TABLE ruled DISABLE RULE "never delete";
COMMENT ON RULE also_log ON ruled IS 'logs';
"""

TRIGGERS = r"""
SET search_path = app, extensions, public;
CREATE TABLE watched (id int PRIMARY KEY, t text, n int);
INSERT INTO watched VALUES (1, 'before the triggers', 1), (2, 'lower', 2);
CREATE TABLE watch_log (said text);
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.t := upper(NEW.t); RETURN NEW; END $$;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not allowed by %', TG_NAME; END $$;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.watch_log VALUES (TG_NAME || TG_OP); RETURN NULL; END $$;
CREATE TRIGGER shouts BEFORE INSERT OR UPDATE OF t ON watched FOR EACH ROW WHEN (NEW.n IS NULL OR NEW.t <> 'it''s') EXECUTE FUNCTION shout();
CREATE TRIGGER "notes it's" AFTER INSERT OR DELETE OR TRUNCATE ON watched FOR EACH STATEMENT EXECUTE FUNCTION note('arg 1', 'it''s', E'\n\\.');
CREATE TRIGGER with_tables AFTER UPDATE ON watched REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE CONSTRAINT TRIGGER checks AFTER INSERT ON watched FROM customers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.n > 100) EXECUTE FUNCTION refuse();
CREATE TRIGGER disabled BEFORE INSERT ON watched EXECUTE FUNCTION refuse();
CREATE TRIGGER on_replica BEFORE INSERT ON watched EXECUTE FUNCTION refuse();
CREATE TRIGGER always BEFORE DELETE ON watched EXECUTE FUNCTION refuse();
ALTER TABLE watched DISABLE TRIGGER disabled, ENABLE REPLICA TRIGGER on_replica, ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER instead INSTEAD OF UPDATE ON cascaded FOR EACH ROW EXECUTE FUNCTION shout();
CREATE TRIGGER on_partitions AFTER INSERT ON measured FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE measured_old DISABLE TRIGGER on_partitions;
COMMENT ON TRIGGER shouts ON watched IS 'loud';
"""

FOREIGN = r"""
SET search_path = app, extensions, public;
CREATE FOREIGN DATA WRAPPER hollow OPTIONS (debug 'it''s');
COMMENT ON FOREIGN DATA WRAPPER hollow IS 'does nothing';
CREATE SERVER elsewhere TYPE 'postgres' VERSION '15' FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'it''s');
CREATE SERVER "files ""here"" too" FOREIGN DATA WRAPPER file_fdw;
ALTER SERVER elsewhere OWNER TO owner;
COMMENT ON SERVER elsewhere IS 'not there';
CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (user 'nobody', password 'pass''word');
CREATE USER MAPPING FOR alice SERVER elsewhere OPTIONS (user 'alice', password E'new\nline\\');
CREATE FOREIGN TABLE remote (id int OPTIONS (column_name 'ID'), t text COLLATE "C" NOT NULL DEFAULT 'x', CHECK (id > 0)) SERVER elsewhere OPTIONS (schema_name 'public', table_name 'it''s');
CREATE FOREIGN TABLE passwd (line text) SERVER "files ""here"" too" OPTIONS (filename '/etc/hostname', format 'text');
CREATE FOREIGN TABLE missing_file (line text) SERVER "files ""here"" too" OPTIONS (filename '/no/such/file', format 'csv');
ALTER FOREIGN TABLE remote OWNER TO owner;
COMMENT ON FOREIGN TABLE remote IS 'far away';
COMMENT ON COLUMN remote.id IS 'number';
CREATE TABLE part_far (a int, b text) PARTITION BY LIST (a);
CREATE TABLE part_near PARTITION OF part_far FOR VALUES IN (1);
CREATE FOREIGN TABLE part_remote PARTITION OF part_far FOR VALUES IN (2) SERVER elsewhere;
INSERT INTO part_near VALUES (1, 'near');
CREATE PUBLICATION everything_out FOR ALL TABLES WITH (publish = 'insert, truncate', publish_via_partition_root = true);
CREATE PUBLICATION some_out FOR TABLE app.customers (id, name), app.orders WHERE (id > 5);
CREATE PUBLICATION schemas_out FOR TABLES IN SCHEMA app, "Odd ""Schema"" too" WITH (publish = 'insert');
CREATE PUBLICATION "nothing it's";
ALTER PUBLICATION some_out OWNER TO chief;
COMMENT ON PUBLICATION some_out IS 'some';
CREATE SUBSCRIPTION coming_in CONNECTION 'host=127.0.0.1 port=1 password=''pass word''' PUBLICATION theirs, "it's" WITH (connect = false, slot_name = NONE, binary = true, streaming = true);
CREATE SUBSCRIPTION with_slot CONNECTION 'host=127.0.0.1 port=1' PUBLICATION theirs WITH (connect = false, slot_name = 'a_slot', disable_on_error = true);
COMMENT ON SUBSCRIPTION coming_in IS 'sleeps';
"""

LARGE_OBJECTS = r"""
SELECT lo_from_bytea(900001, decode(string_agg(lpad(to_hex(i % 256), 2, '0'), '' ORDER BY i), 'hex')) FROM generate_series(0, 5000) i;
SELECT lo_create(900002);
SELECT lo_create(900003);
SELECT lo_put(900003, 3000000, '\x00ff5c2e0a');
SELECT lo_from_bytea(900004, '\x5c2e0a');
SELECT lo_from_bytea(4294967295, 'the last number');
SELECT lo_create(900005);
SELECT lo_put(900005, 0, convert_to(string_agg(md5(i::text), ''), 'UTF8')) FROM generate_series(1, 20000) i;
ALTER LARGE OBJECT 900001 OWNER TO alice;
ALTER LARGE OBJECT 900002 OWNER TO "new
line";
GRANT SELECT ON LARGE OBJECT 900001 TO reader;
GRANT ALL ON LARGE OBJECT 900003 TO PUBLIC;
COMMENT ON LARGE OBJECT 900001 IS E'large\n\\! touch /tmp/pwned';
COMMENT ON LARGE OBJECT 900002 IS 'empty';
CREATE TABLE app.pictures (id int PRIMARY KEY, picture app.lo, plain oid);
INSERT INTO app.pictures VALUES (1, 900001, 900003), (2, 900002, NULL);
CREATE TRIGGER tidy BEFORE UPDATE OR DELETE ON app.pictures FOR EACH ROW EXECUTE FUNCTION lo_manage(picture);
"""


def hostile_content() -> str:
    """Names and comments that try to be commands when a dump is read as a script."""
    name, told = ident(HOSTILE[:63]), literal(HOSTILE)
    return f"""
CREATE SCHEMA {name} AUTHORIZATION {name};
CREATE TABLE {name}.{name} ({name} int PRIMARY KEY, "a
\\.
b" text DEFAULT {told});
INSERT INTO {name}.{name} VALUES (1, {told}), (2, DEFAULT);
COMMENT ON TABLE {name}.{name} IS {told};
COMMENT ON COLUMN {name}.{name}.{name} IS {told};
COMMENT ON SCHEMA {name} IS {told};
CREATE TYPE {name}."t
\\q" AS ENUM ({told[:60]}');
CREATE VIEW {name}."v
\\! touch /tmp/pwned" AS SELECT {told}::text AS {name} FROM {name}.{name};
CREATE FUNCTION {name}."f
\\! touch /tmp/pwned"({name} text DEFAULT {told}) RETURNS text LANGUAGE plpgsql AS $hostile$
BEGIN
/*
\\! touch /tmp/pwned
\\restrict x
\\unrestrict x
--
-- Name: stolen; Type: TABLE; Schema: public; Owner: postgres
--
\\connect postgres
\\copy x from program 'touch /tmp/pwned'
\\.
*/
RETURN '$_$ $function$ ' || E'\\n';
END
$hostile$;
ALTER TABLE {name}.{name} OWNER TO {name};
GRANT SELECT ({name}) ON {name}.{name} TO {name}, "it's", "new
line";
CREATE TRIGGER "t
\\! touch /tmp/pwned" BEFORE TRUNCATE ON {name}.{name} EXECUTE FUNCTION app.refuse({told});
CREATE POLICY "p
\\! touch /tmp/pwned" ON {name}.{name} USING (true);
CREATE INDEX "i
\\! touch /tmp/pwned" ON {name}.{name} ({name}) WHERE "a
\\.
b" <> {told};
CREATE SEQUENCE {name}."s
\\! touch /tmp/pwned";
CREATE PUBLICATION "pub
\\! touch /tmp/pwned" FOR TABLE {name}.{name};
CREATE STATISTICS {name}."st
\\! touch /tmp/pwned" ON {name}, "a
\\.
b" FROM {name}.{name};
CREATE SERVER "srv
\\! touch /tmp/pwned" FOREIGN DATA WRAPPER hollow OPTIONS ("o
\\! touch /tmp/pwned" {told});
CREATE USER MAPPING FOR {name} SERVER "srv
\\! touch /tmp/pwned" OPTIONS (x {told});
"""


GRANTS = r"""
SET search_path = app, extensions, public;
GRANT USAGE ON SCHEMA app TO reader, writer;
GRANT CREATE ON SCHEMA app TO alice WITH GRANT OPTION;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA app TO reader;
GRANT INSERT, UPDATE, TRUNCATE, REFERENCES, TRIGGER ON customers TO writer WITH GRANT OPTION;
SET ROLE writer; GRANT INSERT ON app.customers TO bob; RESET ROLE;
GRANT ALL ON orders TO PUBLIC;
REVOKE ALL ON heap FROM postgres;
GRANT SELECT (id, "Na me") ON simple TO bob;
GRANT UPDATE (name), SELECT (id) ON customers TO "it's" WITH GRANT OPTION;
GRANT REFERENCES (id), INSERT (name) ON customers TO PUBLIC;
GRANT USAGE, SELECT ON SEQUENCE alone TO writer;
GRANT UPDATE ON SEQUENCE "odd seq'" TO "new
line";
REVOKE EXECUTE ON FUNCTION guarded(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guarded(text) TO reader WITH GRANT OPTION;
GRANT EXECUTE ON PROCEDURE proc(int, text) TO bob;
REVOKE ALL ON FUNCTION total(int) FROM PUBLIC;
GRANT USAGE ON TYPE mood TO alice WITH GRANT OPTION;
REVOKE USAGE ON TYPE pair FROM PUBLIC;
GRANT USAGE ON DOMAIN positive TO bob;
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql TO owner, alice;
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO alice;
GRANT USAGE ON FOREIGN SERVER elsewhere TO bob WITH GRANT OPTION;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO owner;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(float8) FROM PUBLIC;
GRANT SELECT ON pg_catalog.pg_authid TO "it's";
GRANT SELECT (rolname, oid) ON pg_catalog.pg_authid TO reader;
GRANT EXECUTE ON FUNCTION extensions.digest(text, text) TO bob;
REVOKE EXECUTE ON FUNCTION extensions.crypt(text, text) FROM PUBLIC;
COMMENT ON TABLE customers IS E'customers\n\\.\n';
COMMENT ON COLUMN customers.name IS 'it''s a name';
COMMENT ON CONSTRAINT "favourite order's" ON customers IS 'a loop';
"""

LAST = r"""
CREATE FUNCTION app.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('app.frozen', true) = 'on' THEN RAISE EXCEPTION 'frozen'; END IF; END $$;
CREATE FUNCTION app.no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never'; END $$;
CREATE EVENT TRIGGER frozen ON ddl_command_start WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION app.on_ddl();
CREATE EVENT TRIGGER "never it's" ON sql_drop EXECUTE FUNCTION app.no_ddl();
CREATE EVENT TRIGGER replica_only ON sql_drop EXECUTE FUNCTION app.no_ddl();
ALTER EVENT TRIGGER "never it's" DISABLE;
ALTER EVENT TRIGGER replica_only ENABLE REPLICA;
ALTER EVENT TRIGGER frozen OWNER TO chief;
COMMENT ON EVENT TRIGGER frozen IS 'frozen';
"""

# What the stock tools stumble over: loads are done with an empty search_path (17 itself empties it while it indexes),
# 17 has no adminpack, and a new database has plpgsql.
RISKY = {
    "unqualified": r"""
CREATE SCHEMA app; SET search_path = app, public;
CREATE FUNCTION inner_one(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
CREATE FUNCTION outer_one(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN inner_one($1); END';
CREATE TABLE checked (t text CHECK (outer_one(t) <> 'x')); INSERT INTO checked VALUES ('A'), ('b');
DO $$ BEGIN
IF current_setting('server_version_num')::int < 170000 THEN
    CREATE INDEX ON checked (outer_one(t));
    CREATE MATERIALIZED VIEW m AS SELECT outer_one(t) FROM checked;
END IF;
END $$;
""",
    "gone extensions": r"""
DO $$ DECLARE name text; BEGIN
FOR name IN SELECT e.name FROM pg_available_extensions e WHERE e.name IN ('adminpack', 'old_snapshot') LOOP
    EXECUTE format('CREATE EXTENSION %I', name);
END LOOP;
END $$;
""",
    "no plpgsql": "DROP EXTENSION plpgsql; CREATE TABLE t (a int);",
}


def plant_extension(box: Box) -> None:
    """Install the files of an extension of the owner's, for every server in the box; `fill` then uses it."""
    for folder in (box.root / "usr/share/postgresql").glob("*/extension"):
        (folder / "lab_settings.control").write_text("default_version = '1.0'\nrelocatable = false\nschema = labs\n")
        (folder / "lab_settings--1.0.sql").write_text(
            "CREATE TABLE setting (name text PRIMARY KEY, value text, builtin bool DEFAULT false);\n"
            "CREATE SEQUENCE setting_ids;\n"
            "INSERT INTO setting VALUES ('version', '1', true);\n"
            "SELECT pg_catalog.pg_extension_config_dump('setting', 'WHERE NOT builtin');\n"
            "SELECT pg_catalog.pg_extension_config_dump('setting_ids', '');\n"
        )


def own_extension() -> str:
    return r"""
DO $$ BEGIN
IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'lab_settings') THEN
    CREATE EXTENSION lab_settings;
    INSERT INTO labs.setting VALUES ('of the owner''s', E'\\.\nnew line');
    PERFORM setval('labs.setting_ids', 55);
END IF;
END $$;
"""
