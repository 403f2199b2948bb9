"""Compare two MariaDB servers fact by fact, independently of tklb (nothing of it is imported here).

`record(box)` asks the server in a box for all that its catalogues say, and for the number and a checksum of each
table's exact rows whatever their order; it gives plain JSON. `compare` names what differs. It only reads.
A record is {kind: {name: {fact: value}}}: kind "table", name "`a b`.`t`", fact "comment", …
Sources: the manual's pages on information_schema, mysql.proc, mysql.event, mysql.global_priv, SHOW CREATE ….
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tests.lab.box import Box

END = "$$end$$"
MARK = "-- next answer --"
CLIENT = ["mariadb", "--no-defaults", "--user=root", "--batch", "--skip-column-names", "--binary-mode"]
CLIENT += ["--default-character-set=utf8mb4", f"--delimiter={END}", "--max-allowed-packet=1G"]
SESSION = "SET time_zone = '+00:00', sql_mode = '', group_concat_max_len = 1 << 30, character_set_results = utf8mb4"
OURS = ("information_schema", "performance_schema", "sys")  # the server makes these itself; `mysql` is asked below
ESCAPES = {b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}

Facts = dict[str, Any]
Record = dict[str, dict[str, Facts]]
Row = tuple[str | None, ...]


class Catalogue(NamedTuple):
    """One catalogue: how many of `columns` come first as the name, the rest are facts. `where` chooses rows."""

    kind: str
    source: str
    names: int
    columns: str
    where: str = "1"


INFORMATION = (
    Catalogue(
        "schema",
        "information_schema.SCHEMATA",
        1,
        "SCHEMA_NAME DEFAULT_CHARACTER_SET_NAME DEFAULT_COLLATION_NAME SCHEMA_COMMENT",
    ),
    Catalogue(
        "table",
        "information_schema.TABLES",
        2,
        "TABLE_SCHEMA TABLE_NAME TABLE_TYPE ENGINE VERSION ROW_FORMAT AUTO_INCREMENT TABLE_COLLATION CREATE_OPTIONS "
        "TABLE_COMMENT",
    ),
    Catalogue(
        "column",
        "information_schema.COLUMNS",
        3,
        "TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION COLUMN_DEFAULT IS_NULLABLE DATA_TYPE "
        "CHARACTER_MAXIMUM_LENGTH CHARACTER_OCTET_LENGTH NUMERIC_PRECISION NUMERIC_SCALE DATETIME_PRECISION "
        "CHARACTER_SET_NAME COLLATION_NAME COLUMN_TYPE COLUMN_KEY EXTRA COLUMN_COMMENT IS_GENERATED "
        "GENERATION_EXPRESSION",
    ),
    Catalogue(
        "index",
        "information_schema.STATISTICS",
        4,
        "TABLE_SCHEMA TABLE_NAME INDEX_NAME SEQ_IN_INDEX NON_UNIQUE COLUMN_NAME COLLATION SUB_PART NULLABLE INDEX_TYPE "
        "COMMENT INDEX_COMMENT IGNORED",
    ),
    Catalogue(
        "constraint",
        "information_schema.TABLE_CONSTRAINTS",
        4,
        "TABLE_SCHEMA TABLE_NAME CONSTRAINT_NAME CONSTRAINT_TYPE CONSTRAINT_SCHEMA",
    ),
    Catalogue(
        "key column",
        "information_schema.KEY_COLUMN_USAGE",
        4,
        "TABLE_SCHEMA TABLE_NAME CONSTRAINT_NAME ORDINAL_POSITION COLUMN_NAME POSITION_IN_UNIQUE_CONSTRAINT "
        "REFERENCED_TABLE_SCHEMA REFERENCED_TABLE_NAME REFERENCED_COLUMN_NAME",
    ),
    Catalogue(
        "reference",
        "information_schema.REFERENTIAL_CONSTRAINTS",
        3,
        "CONSTRAINT_SCHEMA TABLE_NAME CONSTRAINT_NAME UNIQUE_CONSTRAINT_SCHEMA UNIQUE_CONSTRAINT_NAME MATCH_OPTION "
        "UPDATE_RULE DELETE_RULE REFERENCED_TABLE_NAME",
    ),
    Catalogue(
        "check",
        "information_schema.CHECK_CONSTRAINTS",
        4,
        "CONSTRAINT_SCHEMA TABLE_NAME LEVEL CONSTRAINT_NAME CHECK_CLAUSE",
    ),
    Catalogue(
        "partition",
        "information_schema.PARTITIONS",
        4,
        "TABLE_SCHEMA TABLE_NAME PARTITION_NAME SUBPARTITION_NAME PARTITION_ORDINAL_POSITION "
        "SUBPARTITION_ORDINAL_POSITION PARTITION_METHOD SUBPARTITION_METHOD PARTITION_EXPRESSION "
        "SUBPARTITION_EXPRESSION PARTITION_DESCRIPTION PARTITION_COMMENT",
        "PARTITION_NAME IS NOT NULL",
    ),
    Catalogue(
        "view",
        "information_schema.VIEWS",
        2,
        "TABLE_SCHEMA TABLE_NAME VIEW_DEFINITION CHECK_OPTION IS_UPDATABLE DEFINER SECURITY_TYPE CHARACTER_SET_CLIENT "
        "COLLATION_CONNECTION ALGORITHM",
    ),
    Catalogue(
        "trigger",
        "information_schema.TRIGGERS",
        2,
        "TRIGGER_SCHEMA TRIGGER_NAME EVENT_MANIPULATION EVENT_OBJECT_SCHEMA EVENT_OBJECT_TABLE ACTION_ORDER "
        "ACTION_STATEMENT ACTION_TIMING SQL_MODE DEFINER CHARACTER_SET_CLIENT COLLATION_CONNECTION DATABASE_COLLATION",
    ),
    Catalogue(
        "parameter",
        "information_schema.PARAMETERS",
        4,
        "SPECIFIC_SCHEMA SPECIFIC_NAME ROUTINE_TYPE ORDINAL_POSITION PARAMETER_MODE PARAMETER_NAME DATA_TYPE "
        "CHARACTER_MAXIMUM_LENGTH NUMERIC_PRECISION NUMERIC_SCALE CHARACTER_SET_NAME COLLATION_NAME DTD_IDENTIFIER",
    ),
)
SYSTEM = (
    Catalogue(
        "routine",
        "mysql.proc",
        3,
        "db name type specific_name language sql_data_access is_deterministic security_type param_list returns body "
        "definer sql_mode comment character_set_client collation_connection db_collation body_utf8 aggregate",
    ),
    Catalogue(
        "event",
        "mysql.event",
        2,
        "db name body definer execute_at interval_value interval_field starts ends status on_completion sql_mode "
        "comment time_zone character_set_client collation_connection db_collation body_utf8",
    ),
    Catalogue("database grant", "mysql.db", 3, ""),
    Catalogue("table grant", "mysql.tables_priv", 4, "Host Db User Table_name Table_priv Column_priv"),
    Catalogue("column grant", "mysql.columns_priv", 5, "Host Db User Table_name Column_name Column_priv"),
    Catalogue("routine grant", "mysql.procs_priv", 5, "Host Db User Routine_name Routine_type Proc_priv"),
    Catalogue("proxy", "mysql.proxies_priv", 4, "Host User Proxied_host Proxied_user With_grant"),
    Catalogue("role of", "mysql.roles_mapping", 3, "Host User Role Admin_option"),
    Catalogue("server", "mysql.servers", 1, ""),
    Catalogue("plugin", "mysql.plugin", 1, "name dl"),
    Catalogue("loadable function", "mysql.func", 1, "name ret dl type"),
)
NOT_CONTENT = ("password_last_changed", "version_id")  # in mysql.global_priv: when, and by which server


def record(box: Box) -> Record:
    """All facts of the server in `box`, which must run."""
    facts: Record = {}
    for catalogue in (*INFORMATION, *SYSTEM):
        facts[catalogue.kind] = dict(_read(box, catalogue))
    _set_views_columns_apart(facts)
    _add_tables(box, facts)
    _add_defaults(box, facts)
    _add_definitions(box, facts)
    facts["account"] = _accounts(box)
    return facts


def _read(box: Box, catalogue: Catalogue) -> Iterator[tuple[str, Facts]]:
    columns = catalogue.columns.split() or _columns_of(box, catalogue.source)
    (answer,) = ask(box, [f"SELECT {', '.join(map(_hex, columns))} FROM {catalogue.source} WHERE {catalogue.where}"])
    for row in map(_unhex, answer):
        if row[0] not in OURS and not (row[0] == "mysql" and catalogue.kind != "plugin"):
            names, values = row[: catalogue.names], row[catalogue.names :]
            yield _called(names), dict(zip(columns[catalogue.names :], values, strict=True))


def _set_views_columns_apart(facts: Record) -> None:
    """A view's columns are what this very server makes of it."""
    columns, views = facts["column"], facts["view"]
    facts["view column"] = {name: columns.pop(name) for name in list(columns) if _split(name)[0] in views}


def _columns_of(box: Box, table: str) -> list[str]:
    (answer,) = ask(box, [f"SHOW COLUMNS FROM {table}"])
    return [row[0] for row in answer]


def _add_tables(box: Box, facts: Record) -> None:
    """What each table's rows are, and what CREATE TABLE would make it again."""
    columns: dict[str, list[tuple[str, str]]] = {}
    for name, fact in facts["column"].items():
        table, _, column = _split(name)
        columns.setdefault(table, []).append((column, fact["DATA_TYPE"] or ""))
    asked: list[tuple[str, Callable[[list[list[str]]], Facts], str]] = []
    for name, fact in facts["table"].items():
        kind = fact["TABLE_TYPE"]
        if fact["ENGINE"] == "Aria":  # the default, told only if somebody asked for it by name, as CREATE TABLE does
            fact["CREATE_OPTIONS"] = fact["CREATE_OPTIONS"].replace("page_checksum=1", "").strip()
        if kind in ("BASE TABLE", "SYSTEM VERSIONED"):
            asked.append((name, _as_definition, f"SHOW CREATE TABLE {name}"))
            asked.append((name, _as_rows, _checksum(name, columns[name])))
            asked.append((name, _as_checksum, f"CHECKSUM TABLE {name} EXTENDED"))
        if kind == "SYSTEM VERSIONED":
            every = _checksum(f"{name} FOR SYSTEM_TIME ALL", columns[name])
            asked.append((name, lambda rows: {"history": rows[0]}, every))
        if kind == "SEQUENCE":
            asked.append((name, lambda rows: {"sequence": rows[0]}, f"SELECT * FROM {name}"))
            asked.append((name, _as_definition, f"SHOW CREATE SEQUENCE {name}"))
    for (name, understand, _), answer in zip(asked, ask(box, [question for _, _, question in asked]), strict=True):
        facts["table"][name].update(understand(answer))
        if understand is _as_definition and (counter := facts["table"][name]["AUTO_INCREMENT"]):
            facts["table"][name]["definition"] = facts["table"][name]["definition"].replace(
                f" AUTO_INCREMENT={counter} ", " ", 1
            )


def _add_defaults(box: Box, facts: Record) -> None:
    """Defaults as the server would store them: what it shows of them is three-byte UTF-8."""
    asked = [
        (fact, f"SELECT HEX(DEFAULT(it.{column})) FROM (SELECT 1) AS one LEFT JOIN {table} AS it ON FALSE")
        for name, fact in facts["column"].items()
        for table, _, column in [_split(name)]
        if (fact["COLUMN_DEFAULT"] or "").startswith(("'", "x'"))
    ]
    for (fact, _), answer in zip(asked, ask(box, [question for _, question in asked]), strict=True):
        fact["default"] = answer[0][0]


def _as_definition(rows: list[list[str]]) -> Facts:
    return {"definition": rows[0][1]}


def _as_rows(rows: list[list[str]]) -> Facts:
    count, first, second = rows[0]
    return {"rows": count, "content": f"{first} {second}"}


def _as_checksum(rows: list[list[str]]) -> Facts:
    return {"checksum": rows[0][1]}


def _checksum(source: str, columns: Sequence[tuple[str, str]]) -> str:
    """Count, and sums of two parts of each row's SHA-1: no order, but every duplicate and every bit matters."""
    values = ", ".join(_exact(column, kind) for column, kind in columns)
    parts = (f"COALESCE(SUM(CAST(CONV({part}, 16, 10) AS DECIMAL(20))), 0)" for part in ("LEFT(h, 15)", "RIGHT(h, 15)"))
    return f"SELECT COUNT(*), {', '.join(parts)} FROM (SELECT SHA1(CONCAT({values})) AS h FROM {source}) AS hashed"


def _exact(column: str, kind: str) -> str:
    """A digest of one value; every value of the type has its own, and NULL is none of them."""
    value = f"CAST({column} AS BINARY)"
    if kind in ("float", "double"):  # a float printed as such has six digits only
        value = f"CAST(CAST({column} AS DOUBLE) AS CHAR)"
    if kind in ("bit", "point", "linestring", "polygon", "geometry", "geometrycollection", "vector"):
        value = f"HEX({column})"
    if kind.startswith("multi"):
        value = f"HEX({column})"
    if kind in ("enum", "set"):  # a wrong value reads as '', but is number 0
        value = f"CONCAT({column} + 0, ':', HEX({column}))"
    return f"IF({column} IS NULL, 'NULL', SHA1({value}))"


def _add_definitions(box: Box, facts: Record) -> None:
    """The source that the catalogues give in three-byte UTF-8 only."""
    asked = [("view", name, 1, f"SHOW CREATE VIEW {name}") for name in facts["view"]]
    asked += [("trigger", name, 2, f"SHOW CREATE TRIGGER {name}") for name in facts["trigger"]]
    for (kind, name, column, _), answer in zip(asked, ask(box, [each[3] for each in asked]), strict=True):
        facts[kind][name]["source"] = answer[0][column]


def _accounts(box: Box) -> dict[str, Facts]:
    """Users and roles: as the privilege table has them, and as the server would make and endow them again."""
    (answer,) = ask(box, [f"SELECT {_hex('User')}, {_hex('Host')}, {_hex('Priv')} FROM mysql.global_priv"])
    found: dict[str, Facts] = {}
    questions: list[str] = []
    for user, host, privileges in map(_unhex, answer):
        known = {key: value for key, value in json.loads(privileges or "{}").items() if key not in NOT_CONTENT}
        known["default role"] = known.pop("default_role", "")
        if known.get("is_role"):
            who = "PUBLIC" if user == "PUBLIC" else _quoted(user or "")
        else:
            who = f"{_text(user or '')}@{_text(host or '')}"
        found[f"{_quoted(user or '')}@{_quoted(host or '')}"] = known
        questions += [f"SHOW GRANTS FOR {who}", "DO 1" if known.get("is_role") else f"SHOW CREATE USER {who}"]
    answers = iter(ask(box, questions))
    for known in found.values():
        known["grants"] = sorted(row[0] for row in next(answers))
        known["definition"] = "".join(row[0] for row in next(answers))
    return found


# ------------------------------------------------------------------- asking


def ask(box: Box, questions: Sequence[str]) -> list[list[list[str]]]:
    """The rows that the server answers to each question; AssertionError with its words if it refuses one."""
    lines = [SESSION]
    for question in questions:
        lines += [question, f"SELECT '{MARK}'"]
    script = "".join(f"{line}\n{END}\n" for line in lines).encode("utf-8", "surrogateescape")
    done = box.run(CLIENT, input=script, text=False, check=False, timeout=600)
    assert not done.returncode, _decoded(done.stderr)
    parts = done.stdout.split(MARK.encode() + b"\n")
    assert len(parts) == len(questions) + 1
    return [[[_plain(field) for field in row.split(b"\t")] for row in part.split(b"\n")[:-1]] for part in parts[:-1]]


def _plain(field: bytes) -> str:
    return _decoded(re.sub(rb"\\([nt0\\])", lambda found: ESCAPES[found[1]], field))


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _hex(column: str) -> str:
    return f"IFNULL(HEX(CAST(`{column}` AS BINARY)), 'NULL')"


def _unhex(row: Sequence[str]) -> Row:
    return tuple(None if field == "NULL" else _decoded(bytes.fromhex(field)) for field in row)


def _quoted(word: str) -> str:
    return "`" + word.replace("`", "``") + "`"


def _text(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def _called(names: Sequence[str | None]) -> str:
    return ".".join("NULL" if word is None else _quoted(word) for word in names)


def _split(name: str) -> tuple[str, str, str]:
    """Table, its bare name and column of a column's name."""
    schema, table, column = re.findall(r"`(?:[^`]|``)*`", name)
    return f"{schema}.{table}", table, column


# ---------------------------------------------------------------- comparing


class Mismatch(NamedTuple):
    """`fact` of the `kind` called `name` is `left` on the first server and `right` on the second; None: absent."""

    kind: str
    name: str
    fact: str
    left: Any
    right: Any

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}: {self.fact}: {self.left!r} became {self.right!r}"


Allowed = Callable[[Mismatch], bool]
ADMINISTRATORS = ("root", "mysql", "mariadb.sys", "debian-sys-maint")
GRANTEE = {
    "account": (0, 1),
    "proxy": (1, 0),
    "table grant": (2, 0),
    "database grant": (2, 0),
}  # user, host in the name


def compare(a: Record, b: Record, allowed: Sequence[Allowed] = ()) -> list[str]:
    """Name each fact that differs and that none of `allowed` expects."""
    return [str(mismatch) for mismatch in mismatches(a, b) if not any(expects(mismatch) for expects in allowed)]


def mismatches(a: Record, b: Record) -> Iterator[Mismatch]:
    """Every difference; a thing that is on one server only is one mismatch, of the fact "there"."""
    for kind in sorted(a.keys() | b.keys()):
        ours, theirs = a.get(kind, {}), b.get(kind, {})
        for name in sorted(ours.keys() | theirs.keys()):
            if name not in ours or name not in theirs:
                yield Mismatch(kind, name, "there", name in ours or None, name in theirs or None)
                continue
            left, right = ours[name], theirs[name]
            for fact in sorted(left.keys() | right.keys()):
                if left.get(fact) != right.get(fact):
                    yield Mismatch(kind, name, fact, left.get(fact), right.get(fact))


def administrators(mismatch: Mismatch) -> bool:
    """What belongs to the accounts that every server has of its own."""
    if mismatch.kind not in GRANTEE:
        return False
    words = _words(mismatch.name)
    user, host = (words[place] for place in GRANTEE[mismatch.kind])
    return user in ADMINISTRATORS and host == "localhost"


def counters(mismatch: Mismatch) -> bool:
    """AUTO_INCREMENT counters."""
    return mismatch.kind == "table" and mismatch.fact == "AUTO_INCREMENT"


def in_database(*databases: str) -> Allowed:
    """Anything of these databases."""
    return lambda mismatch: (
        mismatch.kind not in ("account", "role of")
        and mismatch.name.startswith(tuple(f"{_quoted(database)}" for database in databases))
    )


def past(mismatch: Mismatch) -> bool:
    """What system-versioned tables were, and when their rows became what they are."""
    return mismatch.fact in ("history", "checksum", "content") and mismatch.name.startswith("`history`.")


def newer_server(mismatch: Mismatch) -> bool:
    """What 11.8 says otherwise than 10.11 about the same thing: left is of the older server, right of the newer."""
    kind, _, fact, left, right = mismatch
    if fact in ("checksum", "access", "Show_create_routine_priv") or kind == "view column":
        return True
    if kind == "index" and fact == "INDEX_TYPE":  # the older one forgets USING HASH
        return bool(left == "BTREE" and right == "HASH")
    if kind == "server" and fact == "Options":
        return left is None
    if kind == "column" and fact == "COLUMN_DEFAULT":  # x'0061' for '\\0a'; the fact "default" is exact
        return bool(left and right) and left.startswith("'") and right.startswith("x'")
    if fact in ("definition", "grants", "CREATE_OPTIONS"):
        return _loose(left) == _loose(right)
    return False


def _loose(said: str | list[str]) -> list[list[str]]:
    """Words regardless of quotes and order in a line: the newer server quotes otherwise, and not always rightly."""
    lines = said if isinstance(said, list) else said.split("\n")
    lines = [re.sub(r"((?:var)?binary\(\d+\)(?: NOT NULL)?) DEFAULT .*", r"\1", line) for line in lines]
    return sorted(sorted(re.sub(r"[`'\"]", "", line).strip(",").split()) for line in lines)


def _words(name: str) -> list[str]:
    return [word[1:-1].replace("``", "`") for word in re.findall(r"`(?:[^`]|``)*`", name)]
