"""Databases of real applications: the schemas that Debian's packages carry, filled with rows.

    with database_clone("bookworm", "mariadb", layers=[scripts_layer("bookworm", "mariadb")]) as a:
        set_up(a, "mariadb")

Takes a machine whose server runs; makes a database for each application in it, through the stock client as the
administrator. The packages are unpacked, not installed: their scripts for the database are all that is wanted.
Every whole number of row n is n, so that rows of one number belong together and foreign keys hold.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.lab.appliance import RESOLVER
from tests.lab.box import Box
from tests.lab.databases import BOOKWORM
from tests.lab.postgresql import PSQL
from tests.lab.roots import layer, root

SCRIPTS = "/mnt/applications"
ROWS = 28
ROUNDS = 3  # a row waits for the row that it points to
MARIADB_CLIENT = ("mariadb", "--no-defaults", "--user=root", "--batch", "--skip-column-names", "--force")


class Application(NamedTuple):
    """The scripts of a package, in order, and what the application asks its database when it starts."""

    package: str
    scripts: Sequence[str]
    question: str


_DBCONFIG = "usr/share/dbconfig-common/data/{0}/install/{1}".format
_MEDIAWIKI = "usr/share/mediawiki/maintenance"
_RADIUS = "etc/freeradius/3.0/mods-config/sql/main"
APPLICATIONS = {
    "mariadb": {
        "zabbix": Application(
            "zabbix-server-mysql",
            [f"usr/share/zabbix-server-mysql/{name}.sql.gz" for name in ("schema", "images", "data")],
            "SELECT mandatory, optional FROM dbversion",
        ),
        "roundcube": Application(
            "roundcube-core", [_DBCONFIG("roundcube", "mysql")], "SELECT value FROM `system` ORDER BY name"
        ),
        "icinga_ido": Application(
            "icinga2-ido-mysql", [_DBCONFIG("icinga2-ido-mysql", "mysql")], "SELECT version FROM icinga_dbversion"
        ),
        "icingadb": Application(
            "icingadb", ["usr/share/icingadb/schema/mysql/schema.sql"], "SELECT version FROM icingadb_schema"
        ),
        "cacti": Application("cacti", ["usr/share/cacti/conf_templates/cacti.sql"], "SELECT cacti FROM version"),
        "bacula": Application(
            "bacula-director-mysql", [_DBCONFIG("bacula-director-mysql", "mysql")], "SELECT VersionId FROM Version"
        ),
        "powerdns": Application(
            "pdns-backend-mysql",
            [f"usr/share/pdns-backend-mysql/schema/{name}.mysql.sql" for name in ("schema", "enable-foreign-keys")],
            "SELECT id, name FROM domains ORDER BY id",
        ),
        "phpmyadmin": Application(
            "phpmyadmin", [_DBCONFIG("phpmyadmin", "mysql")], "SELECT id, dbase FROM pma__bookmark ORDER BY id"
        ),
        "ttrss": Application("tt-rss", [_DBCONFIG("tt-rss", "mysql")], "SELECT schema_version FROM ttrss_version"),
        "ejabberd": Application(
            "ejabberd", ["usr/share/ejabberd/sql/mysql.new.sql"], "SELECT username FROM users ORDER BY username"
        ),
        "kamailio": Application(
            "kamailio-mysql-modules",
            [f"usr/share/kamailio/mysql/{name}-create.sql" for name in ("standard", "acc", "dialog", "presence")],
            "SELECT table_name, table_version FROM version ORDER BY table_name",
        ),
        "radius": Application(
            "freeradius-config", [f"{_RADIUS}/mysql/schema.sql"], "SELECT id, username FROM radcheck ORDER BY id"
        ),
        "tickets": Application(
            "request-tracker5",
            ["usr/share/request-tracker5/etc/schema.mysql"],
            "SELECT id, Subject FROM Tickets ORDER BY id",
        ),
        "mediawiki": Application(
            "mediawiki", [f"{_MEDIAWIKI}/tables-generated.sql"], "SELECT page_id FROM page ORDER BY page_id"
        ),
        "gammu": Application(
            "gammu-smsd", ["usr/share/doc/gammu-smsd/examples/mysql.sql"], "SELECT Version FROM gammu ORDER BY Version"
        ),
    },
    "postgresql": {
        "zabbix": Application(
            "zabbix-server-pgsql",
            [f"usr/share/zabbix-server-pgsql/{name}.sql.gz" for name in ("schema", "images", "data")],
            "SELECT mandatory, optional FROM dbversion",
        ),
        "roundcube": Application(
            "roundcube-core", [_DBCONFIG("roundcube", "pgsql")], 'SELECT value FROM "system" ORDER BY name'
        ),
        "icinga_ido": Application(
            "icinga2-ido-pgsql", [_DBCONFIG("icinga2-ido-pgsql", "pgsql")], "SELECT version FROM icinga_dbversion"
        ),
        "icingadb": Application(
            "icingadb", ["usr/share/icingadb/schema/pgsql/schema.sql"], "SELECT version FROM icingadb_schema"
        ),
        "bacula": Application(
            "bacula-director-pgsql", [_DBCONFIG("bacula-director-pgsql", "pgsql")], "SELECT VersionId FROM Version"
        ),
        "powerdns": Application(
            "pdns-backend-pgsql",
            ["usr/share/pdns-backend-pgsql/schema/schema.pgsql.sql"],
            "SELECT id, name FROM domains ORDER BY id",
        ),
        "ttrss": Application("tt-rss", [_DBCONFIG("tt-rss", "pgsql")], "SELECT schema_version FROM ttrss_version"),
        "ejabberd": Application(
            "ejabberd", ["usr/share/ejabberd/sql/pg.new.sql"], "SELECT username FROM users ORDER BY username"
        ),
        "kamailio": Application(
            "kamailio-postgres-modules",
            [f"usr/share/kamailio/postgres/{name}-create.sql" for name in ("standard", "acc", "dialog", "presence")],
            "SELECT table_name, table_version FROM version ORDER BY table_name",
        ),
        "radius": Application(
            "freeradius-config", [f"{_RADIUS}/postgresql/schema.sql"], "SELECT id, username FROM radcheck ORDER BY id"
        ),
        "calendars": Application(
            "davical",
            ["../awl/usr/share/awl/dba/awl-tables.sql", "usr/share/davical/dba/davical.sql"],
            "SELECT user_no FROM usr ORDER BY user_no",
        ),
        "tickets": Application(
            "request-tracker5",
            ["usr/share/request-tracker5/etc/schema.Pg"],
            "SELECT id, subject FROM tickets ORDER BY id",
        ),
        "mediawiki": Application(
            "mediawiki",
            [f"{_MEDIAWIKI}/postgres/{name}.sql" for name in ("tables-generated", "tables")],
            "SELECT page_id FROM page ORDER BY page_id",
        ),
        "gammu": Application(
            "gammu-smsd",
            ["usr/share/doc/gammu-smsd/examples/pgsql.sql"],
            'SELECT "Version" FROM gammu ORDER BY "Version"',
        ),
    },
}
_ALSO = {"davical": "awl:libawl-php"}  # a package that another one's scripts lean on, with its folder


def scripts_layer(engine: str) -> Path:
    """The scripts of all applications, below SCRIPTS, over bookworm's machine of an engine; made once."""
    wanted = APPLICATIONS[engine].values()

    def unpack(box: Box) -> None:
        (box.root / "etc/resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        box.run(["apt-get", "update"])
        also = [each.partition(":") for each in map(_ALSO.get, (one.package for one in wanted)) if each]
        packages = [*((one.package, one.package) for one in wanted), *((name, package) for name, _, package in also)]
        for name, package in packages:
            folder = f"{SCRIPTS}/{name}"
            box.run(["mkdir", "-p", folder])
            box.run(
                ["sh", "-ec", f'cd /tmp; apt-get download {package}; dpkg-deb -x {package}_*.deb "$1"', "-", folder]
            )
            box.run(["find", folder, "-type", "f", "!", "-path", "*sql*", "!", "-path", "*/etc/schema.*", "-delete"])
            box.run(["sh", "-c", f"rm /tmp/{package}_*.deb"])
        (box.root / "etc/resolv.conf").unlink()

    names = " ".join(one.package for one in wanted)
    return layer(f"applications-{engine} {names}", [root(BOOKWORM[engine])], unpack)


def set_up(box: Box, engine: str) -> None:
    """Make and fill a database for each application."""
    for name, application in APPLICATIONS[engine].items():
        ask(box, engine, "", f"CREATE DATABASE {name}")
        for script in application.scripts:
            run_script(box, engine, name, f"{SCRIPTS}/{application.package}/{script}")
        fill(box, engine, name)


def ask_as_applications(box: Box, engine: str) -> dict[str, str]:
    """What each application learns from its database when it starts."""
    return {name: ask(box, engine, name, one.question) for name, one in APPLICATIONS[engine].items()}


def run_script(box: Box, engine: str, database: str, path: str) -> None:
    """Run a script as its package does; refusals of old syntax are the application's own matter."""
    client = shlex.join(_client(engine, database))
    box.run(["sh", "-c", f'case "$1" in *.gz) zcat "$1";; *) cat "$1";; esac | {client}', "-", path], timeout=600)


def fill(box: Box, engine: str, database: str) -> None:
    """Add rows to every table, as far as its constraints take them."""
    tables: dict[str, list[Column]] = {}
    for line in ask(box, engine, database, _COLUMNS[engine]).splitlines():
        column = Column(*json.loads(line))
        tables.setdefault(column.table, []).append(column)
    quote, head, tail, end = _WORDS[engine]
    statements = [
        f"{head} {quote}{table}{quote} ({', '.join(f'{quote}{each.name}{quote}' for each in columns)}){tail}"
        f" VALUES ({', '.join(make_value(each, number, engine) for each in columns)}){end}"
        for table, columns in tables.items()
        for number in range(1, ROWS + 1)
    ]
    for _ in range(ROUNDS):
        ask(box, engine, database, *statements)


class Column(NamedTuple):
    """A column that takes values; `kind` is its type, `room` is in characters or bytes, `choice` has its members."""

    table: str
    name: str
    kind: str
    room: int | None
    choice: str

    @property
    def members(self) -> list[str]:
        return re.findall(r"'([^']*)'", self.choice) if self.kind in ("enum", "set", "choice") else []


def make_value(column: Column, number: int, engine: str) -> str:
    """The value of row `number`, as a literal of SQL."""
    kind = column.kind
    if column.members:
        return _quote(column.members[number % len(column.members)])
    if kind == "bool":
        return "TRUE" if number % 2 else "FALSE"
    if _NUMBERS.fullmatch(kind):
        return str(number)
    if _BYTES.fullmatch(kind):
        content = (bytes((number, 0, 255, 39, 92)) * 8)[: min(column.room or 20, 40)].hex()
        return f"X'{content}'" if engine == "mariadb" else f"'\\x{content}'"
    if kind in _SPECIAL:
        return _quote(_SPECIAL[kind].format(number))
    if _TIMES.match(kind):
        return _quote(f"2024-02-{number:02} 12:34:56")
    if kind.startswith("_"):
        return "'{}'"
    return _quote(f"{number:02} l'été"[: column.room or 40])


def ask(box: Box, engine: str, database: str, *statements: str) -> str:
    """What the server answers; a statement that it refuses is passed over."""
    text = "".join(f"{each};\n" for each in statements)
    return str(box.run(_client(engine, database), input=text, check=False, timeout=900).stdout)


def _client(engine: str, database: str) -> list[str]:
    if engine == "mariadb":
        return [*MARIADB_CLIENT, *([f"--database={database}"] if database else [])]
    return ["env", f"PGDATABASE={database or 'postgres'}", "PGOPTIONS=-cclient_min_messages=error", *PSQL[:-2]]


def _quote(word: str) -> str:
    return "'" + word.replace("'", "''") + "'"


_NUMBERS = re.compile(r"(tiny|small|medium|big)?int\d*|decimal|numeric|float\d*|double|real|year|bit|oid")
_BYTES = re.compile(r"(tiny|medium|long)?blob|(var)?binary|bytea")
_TIMES = re.compile(r"date|timestamp")
_SPECIAL = {
    "time": "12:34:{0:02}",
    "interval": "{0} days",
    "json": '{{"n": {0}}}',
    "jsonb": '{{"n": {0}}}',
    "inet": "192.0.2.{0}",
    "uuid": "00000000-0000-0000-0000-0000000000{0:02}",
    "tsvector": "word{0}",
}
_WORDS = {
    "mariadb": ("`", "INSERT IGNORE INTO", "", ""),
    "postgresql": ('"', "INSERT INTO", " OVERRIDING SYSTEM VALUE", " ON CONFLICT DO NOTHING"),
}
_COLUMNS = {
    "mariadb": """
        SELECT JSON_ARRAY(c.TABLE_NAME, c.COLUMN_NAME, c.DATA_TYPE, c.CHARACTER_MAXIMUM_LENGTH, c.COLUMN_TYPE)
        FROM information_schema.COLUMNS AS c
        JOIN information_schema.TABLES AS t USING (TABLE_SCHEMA, TABLE_NAME)
        WHERE TABLE_SCHEMA = DATABASE() AND t.TABLE_TYPE = 'BASE TABLE' AND c.IS_GENERATED = 'NEVER'
        ORDER BY t.CREATE_TIME, c.TABLE_NAME, c.ORDINAL_POSITION""",
    "postgresql": """
        SELECT replace(json_build_array(c.relname, a.attname,
            CASE WHEN 'e' IN (t.typtype, base.typtype) THEN 'choice' ELSE COALESCE(base.typname, t.typname) END,
            CASE WHEN a.atttypmod > 4 AND t.typname IN ('varchar', 'bpchar') THEN a.atttypmod - 4
                 ELSE substring(CASE WHEN t.typtype = 'd' THEN t.typname END FROM '[0-9]+$')::int END,
            COALESCE((SELECT string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder) FROM pg_enum
                WHERE enumtypid IN (t.oid, base.oid)), ''))::text, E'\\n', '')
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        JOIN pg_type AS t ON t.oid = a.atttypid
        LEFT JOIN pg_type AS base ON base.oid = t.typbasetype
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
        ORDER BY c.oid, a.attnum""",
}
