r"""Fill a MariaDB server with every kind of content that a backup can stumble over.

`fill(box)` takes a lab box whose server runs and whose databases are those of a fresh install; it touches nothing
but that server, through the stock client as root over the socket. The same server gets the same content every time:
clock and chance are fixed. What only newer servers know comes last, unless `newest` says otherwise.

In databases of their own, so that a test can tell them apart: `history` (a system-versioned table's past cannot be
brought back by stock means), `emoji` (the server shows a question mark for what it keeps) and `broken` (a view of a
table that is gone). Names have no letter outside Unicode's first plane: the server takes none.
Sources: the manual's pages on CREATE TABLE, CREATE VIEW, GRANT, …; mariadb(1) on --binary-mode.
"""

# ruff: noqa: E501 - a statement or a type's values a line
from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.lab.box import Box

Statement = str | bytes
END = b"$$end$$"
CLIENT = [
    "mariadb",
    "--no-defaults",
    "--user=root",
    "--batch",
    "--binary-mode",
    "--comments",
    "--default-character-set=utf8mb4",
    f"--delimiter={END.decode()}",
]
BYTES = bytes(range(256))
HOSTILE = "h\n\\! touch /tmp/pwned\nsystem touch /tmp/pwned\n#'\"`;--"
HOSTILE_COMMENT = "*/ \n\\! touch /tmp/pwned\nsystem touch /tmp/pwned\n\\q\n-- '\"`\\ é日本"
# What a client that guesses would take for a path, an option, a pattern, a statement, a file of its own, or the same.
NAMES = (
    *("a b", "a_b", "a-b", "a.b", "a/b", "a\\b", "a%b", "a%20b", "a@0020b", "a+b", "a\tb", "a\nb", "a\r\nb", "a\x1ab"),
    *("a'b", 'a"b', "a`b", "a''b", "a``b", "a\\'b", "a;b", "a,b", "a=b", "a:b", "a|b", "a&b", "a$b", "a#b", "a\x01b"),
    *("-leading", "--all-databases", "*", "?", "[a-z]", "{a,b}", "~", "a*b?", "%", "_", ".", "..", ".hidden", "\\"),
    *("\\N", "Case", "case", "CASE", "MYSQL", "Sys", "NULL", "null", "select", "1", "1e3", "0x10", "table", "TABLE"),
    *(" leading", "h\u00e9llo", "he\u0301llo", "hello", "stra\u00dfe", "strasse", "\u65e5\u672c\u8a9e"),
    *("\u202egnp.exe", "\uff0f", "\u0130"),
    *("$(touch /tmp/pwned)", "`touch /tmp/pwned`", "'; DROP DATABASE mysql; --", "/* c */", "# c", "-- c", HOSTILE),
    *("x" * 64, "\u00e4" * 60, "x" * 63 + "y"),
)
ADMINISTRATOR = "admin'istrator"
PASSWORD_HASH = "*94BDCEBE19083CE2A1F959FD02F964C7AF4CFC29"  # "test"


def fill(box: Box, *, newest: tuple[int, int] | None = None) -> None:
    """Make all of it. `newest`: leave out what servers after that version brought, to compare across versions.

    Raises AssertionError with the server's words if it takes a statement otherwise than expected.
    """
    known = min(newest or version(box), version(box))
    sections = [databases, types, characters, emoji, tables, keys, cycles, partitions, engines, big, sequences, history]
    for section in (*sections, accounts, programs, views, triggers, events, servers, grants, broken):
        try:
            execute(box, section(known))
        except AssertionError as error:
            error.add_note(f"in section {section.__name__}")
            raise
    execute(box, from_japan(known), charset="sjis")


def version(box: Box) -> tuple[int, int]:
    """The server's version as (major, minor)."""
    said = box.run([*CLIENT, "--skip-column-names"], input="SELECT VERSION()").stdout
    major, minor, *_ = said.split(".")
    return int(major), int(minor)


def execute(box: Box, statements: Iterator[Statement] | Sequence[Statement], *, charset: str = "utf8mb4") -> str:
    """Run statements in one session whose clock stands still; gives what the client printed.

    `charset` is what the client takes them for, where it looks for the ends of strings.
    """
    session = [
        "/*M!110200 SET character_set_collations = '' */",  # a newer server gives other collations unless told
        "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci, collation_server = utf8mb4_general_ci",
        "SET timestamp = 1735689600, time_zone = '+00:00', foreign_key_checks = 1",
        f"SET sql_mode = '{MODE}'",
    ]
    lines = [line if isinstance(line, bytes) else line.encode() for line in (*session, *statements)]
    client = [*CLIENT, f"--default-character-set={charset}"]
    return str(box.run(client, input=b"".join(line + b"\n" + END + b"\n" for line in lines)).stdout)


MODE = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"


def name(word: str) -> str:
    """An identifier, quoted."""
    return "`" + word.replace("`", "``") + "`"


def text(word: str) -> str:
    """A string literal."""
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def blob(content: bytes) -> str:
    """A binary literal."""
    return f"X'{content.hex()}'"


def rows(table: str, *values: str) -> str:
    return f"INSERT INTO {table} VALUES {', '.join(f'({each})' for each in values)}"


# ---------------------------------------------------------------- databases


def databases(known: tuple[int, int]) -> Iterator[Statement]:
    """Every name, in three places: of a database, of a table, of a column."""
    charsets = ("utf8mb4 COLLATE utf8mb4_bin", "latin1 COLLATE latin1_german2_ci", "ucs2 COLLATE ucs2_bin", "sjis")
    for number, word in enumerate(NAMES):
        yield f"CREATE DATABASE {name(word)} CHARACTER SET {charsets[number % 4]} COMMENT {text(HOSTILE_COMMENT)}"
        yield f"CREATE TABLE {name(word)}.{name(word)} ({name(word)} INT PRIMARY KEY COMMENT {text(word)}, t TEXT)"
        yield rows(f"{name(word)}.{name(word)}", f"{number}, {text('row')}")
    yield "CREATE DATABASE `names`"
    for number, word in enumerate(NAMES):
        column, key = name(word), name("k" + word[:63])
        yield (
            f"CREATE TABLE `names`.{name(word)} (id INT AUTO_INCREMENT PRIMARY KEY, {column} VARCHAR(80) COLLATE "
            f"utf8mb4_bin DEFAULT {text(word)} COMMENT {text(HOSTILE_COMMENT)}, UNIQUE KEY {key} ({column}))"
            f" COMMENT {text(word)}"
        )
        yield rows(f"`names`.{name(word)}", f"{number + 1}, DEFAULT", f"{number + 2}, {text('💩' + word)}")
    yield "CREATE DATABASE `empty` CHARACTER SET binary"


# -------------------------------------------------------------------- types

INTEGERS = (("TINYINT", 8), ("SMALLINT", 16), ("MEDIUMINT", 24), ("INT", 32), ("BIGINT", 64))
# Type, then values as literals; NULL is added to each.
VALUES: tuple[tuple[str, str], ...] = (
    (
        "DECIMAL(65,30)",
        "99999999999999999999999999999999999.999999999999999999999999999999, -0.000000000000000000000000000001, 0",
    ),
    ("DECIMAL(1,0)", "-9, 9"),
    ("DECIMAL(10,2) ZEROFILL", "1.5, 99999999.99"),
    ("INT(8) ZEROFILL", "7, 4294967295"),
    ("BOOLEAN", "TRUE, FALSE, -1"),
    (
        "FLOAT",
        "0.1000001, 16777217, 3.4028234e38, -3.4028234e38, 1.17549435e-38, 1.4e-45, 0.1, 1e-7, 123456.789",
    ),
    ("FLOAT(20,5)", "1.23456, 123456789.12345"),
    (
        "DOUBLE",
        "1.7976931348623157e308, -1.7976931348623157e308, 2.2250738585072014e-308, 5e-324, 0.1, 1e0/3, 0.30000000000000004, 9007199254740993",
    ),
    ("DOUBLE(30,10) UNSIGNED", "1.0000000001, 12345678901234567890.0123456789"),
    ("BIT(1)", "b'0', b'1'"),
    (
        "BIT(64)",
        "b'1000000000000000000000000000000000000000000000000000000000000001', 0, 18446744073709551615, 0x5C27220A",
    ),
    ("BIT(9)", "b'100000000', 39, 92"),
    ("DATE", "'0000-00-00', '2024-00-00', '2024-02-00', '1000-01-01', '9999-12-31', '0001-01-01', '2024-02-29'"),
    ("DATETIME", "'0000-00-00 00:00:00', '9999-12-31 23:59:59', '1000-01-01 00:00:00'"),
    ("DATETIME(6)", "'0000-00-00 00:00:00.000000', '9999-12-31 23:59:59.999999', '2024-02-29 12:34:56.000001'"),
    (
        "TIMESTAMP",
        "'0000-00-00 00:00:00', '1970-01-01 00:00:01', '2038-01-19 03:14:07', '2024-03-31 02:30:00', '2024-10-27 01:30:00'",
    ),
    ("TIMESTAMP(6)", "'0000-00-00 00:00:00.000000', '2038-01-19 03:14:07.999999', '1970-01-01 00:00:01.000001'"),
    ("TIME", "'-838:59:59', '838:59:59', '00:00:00', '-00:00:01'"),
    ("TIME(6)", "'-838:59:59.999999', '-00:00:00.000001', '838:59:59.999999'"),
    ("YEAR", "0, 1901, 2155, 2000"),
    (
        "ENUM('', 'a,b', 'it''s', 'back\\\\slash', 'é', '\"', 'NULL', 'new\nline')",
        "'', 'a,b', 'it''s', 'back\\\\slash', 'é', '\"', 'NULL', 'new\nline'",
    ),
    ("SET('a b', 'it''s', 'back\\\\slash', 'é', '\"', '', '(')", "'', 'a b,it''s', 'back\\\\slash,é,\"', ','"),
    ("JSON", '\'{}\', \'[1, 1.0, 1e400, null]\', \'{"a": "\\\\u0000\\\\""}\', \'{"b":1,"a":2, "a": 3}\', \'"💩"\''),
    (
        "UUID",
        "'00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '123e4567-e89b-12d3-a456-426655440000'",
    ),
    ("INET6", "'::', '::ffff:192.0.2.1', '2001:db8::ff00:42:8329', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'"),
    ("INET4", "'0.0.0.0', '255.255.255.255', '192.0.2.1'"),
    ("POINT", "ST_GeomFromText('POINT(1.1 -0.30000000000000004)'), ST_GeomFromText('POINT(1 2)', 4326)"),
    ("LINESTRING", "ST_GeomFromText('LINESTRING(0 0,10 10,20 25)')"),
    ("POLYGON", "ST_GeomFromText('POLYGON((0 0,10 0,10 10,0 10,0 0),(5 5,7 5,7 7,5 7,5 5))')"),
    ("MULTIPOINT", "ST_GeomFromText('MULTIPOINT(0 0,20 20,60 60)')"),
    ("MULTILINESTRING", "ST_GeomFromText('MULTILINESTRING((10 10,20 20),(15 15,30 15))')"),
    ("MULTIPOLYGON", "ST_GeomFromText('MULTIPOLYGON(((0 0,1 0,1 1,0 0)),((2 2,3 2,3 3,2 2)))', 3857)"),
    ("GEOMETRYCOLLECTION", "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')"),
    ("GEOMETRY", "ST_GeomFromText('POINT(92 39)'), ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))', 1)"),
)
BINARY = ("BINARY(4)", "BINARY(255)", "VARBINARY(300)", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB")


def types(known: tuple[int, int]) -> Iterator[Statement]:
    """A table a type: every value in a row, and NULL."""
    yield "CREATE DATABASE `types`"
    for kind, bits in INTEGERS:
        yield f"CREATE TABLE types.{name(kind)} (id INT PRIMARY KEY, v {kind})"
        yield rows(f"types.{name(kind)}", f"1, {-(2 ** (bits - 1))}", f"2, {2 ** (bits - 1) - 1}", "3, 0", "4, NULL")
        yield f"CREATE TABLE types.{name(kind + ' unsigned')} (id INT PRIMARY KEY, v {kind} UNSIGNED)"
        yield rows(f"types.{name(kind + ' unsigned')}", f"1, {2**bits - 1}", "2, 0", "3, NULL")
    for kind, values in VALUES:
        table = f"types.{name(kind.replace(chr(10), ' ')[:64].rstrip())}"
        yield f"CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, v {kind} NULL)"
        for value in [*_separate(values), "NULL"]:
            yield f"INSERT INTO {table} (v) VALUES ({value})"
    yield "SET sql_mode = 'ALLOW_INVALID_DATES'"
    yield "INSERT INTO types.`DATE` VALUES (100, '2024-02-31')"
    yield "INSERT INTO types.`DATETIME` VALUES (100, '2023-02-29 00:00:00')"
    yield "SET sql_mode = ''"
    yield "INSERT IGNORE INTO types.`INT` VALUES (100, 'not a number')"
    yield "CREATE TABLE types.wrong_enum (id INT PRIMARY KEY, v ENUM('a', ''))"
    yield "INSERT IGNORE INTO types.wrong_enum VALUES (1, 'a'), (2, ''), (3, 'neither'), (4, NULL)"
    yield f"SET sql_mode = '{MODE}'"
    yield from _binaries()
    if known >= (11, 0):  # before, it reads as 0
        yield "CREATE TABLE types.`negative zero` (id INT PRIMARY KEY, d DOUBLE, f FLOAT)"
        yield rows("types.`negative zero`", "1, '-0', '-0'")
    if known >= (11, 7):
        yield "CREATE TABLE types.vector (id INT PRIMARY KEY, v VECTOR(3) NOT NULL, VECTOR INDEX (v) M=6 DISTANCE=cosine)"
        yield rows("types.vector", "1, VEC_FromText('[0.1,0.2,-3.4e10]')", "2, VEC_FromText('[1,0,1]')")


def _binaries() -> Iterator[Statement]:
    contents = (
        b"",
        b"\0",
        b"\0\0\0\0",
        b"\\",
        b"'\"`",
        b"\n\t\r\x1a",
        b"\\N",
        b"NULL",
        b"\xff\xfe",
        b"  ",
        b"\x5c\x27",
    )
    for kind in BINARY:
        fits = [content for content in contents if len(content) <= 4]
        fits += [BYTES[:255]] if "255" in kind or kind == "TINYBLOB" else [] if kind == "BINARY(4)" else [BYTES]
        yield f"CREATE TABLE types.{name(kind)} (id INT AUTO_INCREMENT PRIMARY KEY, v {kind})"
        yield f"INSERT INTO types.{name(kind)} (v) VALUES {', '.join(f'({blob(content)})' for content in fits)}, (NULL)"
    yield "CREATE TABLE types.`every byte` (v VARBINARY(2) PRIMARY KEY, t VARCHAR(2) CHARACTER SET latin1) "
    values = ", ".join(f"(X'{byte:02x}', _latin1 X'{byte:02x}')" for byte in range(256))
    yield f"INSERT INTO types.`every byte` VALUES {values}"


def _separate(values: str) -> list[str]:
    """Split at commas that are in no quotes and no brackets."""
    parts, depth, quoted = [""], 0, False
    for letter in values:
        quoted ^= letter == "'"
        depth += 0 if quoted else (letter == "(") - (letter == ")")
        if letter == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


# --------------------------------------------------------------- characters

WORDS = {
    "latin1": "latin1_swedish_ci latin1_german2_ci latin1_bin|Ünïcödé €ÿ",
    "latin2": "latin2_general_ci|Žluťoučký kůň",
    "cp1251": "cp1251_general_ci|Привет",
    "koi8r": "koi8r_general_ci|Привет",
    "greek": "greek_general_ci|Γειά",
    "ascii": "ascii_general_ci ascii_bin|plain",
    "utf8mb3": "utf8mb3_general_ci utf8mb3_unicode_ci utf8mb3_bin utf8mb3_german2_ci|Ünï 日本語 \uffee",
    "utf8mb4": "utf8mb4_general_ci utf8mb4_bin utf8mb4_unicode_520_ci utf8mb4_turkish_ci utf8mb4_nopad_bin utf8mb4_uca1400_as_cs|"
    "emoji 💩👩\u200d👩\u200d👧 𝄞 \U0010ffff",
    "ucs2": "ucs2_general_ci ucs2_bin|日本語 \u005c\u2705",
    "utf16": "utf16_general_ci utf16_bin|日本語 💩 \u5c00\u275c",
    "utf16le": "utf16le_general_ci|日本語 💩",
    "utf32": "utf32_general_ci utf32_bin|日本語 💩",
    "sjis": "sjis_japanese_ci sjis_bin|表ソ能 ｶﾅ",
    "cp932": "cp932_japanese_ci cp932_bin|表ソ能①",
    "ujis": "ujis_japanese_ci|表ソ能",
    "eucjpms": "eucjpms_japanese_ci|表ソ①",
    "gbk": "gbk_chinese_ci gbk_bin|縗運誠",
    "gb2312": "gb2312_chinese_ci|中国",
    "big5": "big5_chinese_ci|功許蓋",
    "euckr": "euckr_korean_ci|한국",
    "binary": "binary|raw",
}
PLAIN = (
    *(
        "",
        "NULL",
        "null",
        "\\N",
        "\\",
        "\\\\",
        "\\'",
        "'",
        "''",
        '"',
        "`",
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\x1a",
        "\0",
        "\\0",
        "\\n",
    ),
    *(
        "trailing  ",
        "  leading",
        " ",
        "a\tb\nc\rd\x1ae\0f",
        ",",
        ";",
        ";;",
        "--",
        "#",
        "/*",
        "*/",
        "%",
        "_",
        "\x7f",
        "\x08",
    ),
    *(
        "\\! touch /tmp/pwned",
        "\nsystem touch /tmp/pwned\n",
        "\\.",
        "\n.\n",
        "\\q",
        "DELIMITER ;\n",
        "EOF",
        "0",
        "1e3",
        "$$",
    ),
)


def characters(known: tuple[int, int]) -> Iterator[Statement]:
    """A table a character set, and one of all of them side by side."""
    yield "CREATE DATABASE `characters` CHARACTER SET gbk COLLATE gbk_bin COMMENT 'Zeichensätze'"
    every = []
    for charset, entry in WORDS.items():
        collations, _, word = entry.partition("|")
        for collation in collations.split():
            of = f"CHARACTER SET {charset} COLLATE {collation}"
            every.append(f"{name(collation)} VARCHAR(200) {of} DEFAULT {text(word)}")
            yield (
                f"CREATE TABLE characters.{collation} (id INT AUTO_INCREMENT PRIMARY KEY, c CHAR(40) {of}, v VARCHAR(100)"
                f" {of}, t TEXT {of}, m LONGTEXT {of} DEFAULT {text(word)}) {of} COMMENT {text(collation)}"
            )
            table = f"characters.{collation} (c, v, t, m)"
            contents = [text(content) for content in (*PLAIN, word, word * 4)]
            yield rows(table, "NULL, NULL, NULL, NULL", *(f"LEFT({x}, 40), {x}, {x}, {x}" for x in contents))
    yield f"CREATE TABLE characters.`side by side` (id INT PRIMARY KEY, {', '.join(every)}) CHARACTER SET utf8mb4"
    yield "INSERT INTO characters.`side by side` (id) VALUES (1), (2)"
    yield "CREATE TABLE characters.`by database` (t TEXT, v VARCHAR(9) PRIMARY KEY)"
    yield rows("characters.`by database`", "'縗運誠', '縗\\\\'", "'許', '運'")
    yield "CREATE TABLE characters.invalid (id INT PRIMARY KEY, t TEXT CHARACTER SET utf8mb3) ENGINE=MyISAM"
    yield "SET NAMES latin1"
    yield b"INSERT INTO characters.invalid VALUES (1, 'caf\xe9 \x80'), (2, CONCAT('mojibake ', CONVERT(X'c3a9' USING latin1)))"


def emoji(known: tuple[int, int]) -> Iterator[Statement]:
    """Definitions that the server keeps and uses exactly, but shows with a question mark wherever it shows them."""
    yield "CREATE DATABASE `emoji`"
    yield (
        "CREATE TABLE emoji.shown_otherwise (id INT PRIMARY KEY, v VARCHAR(9) COLLATE utf8mb4_bin DEFAULT '💩',"
        " e ENUM('💩', '💨') COLLATE utf8mb4_bin DEFAULT '💨')"
    )
    yield "INSERT INTO emoji.shown_otherwise VALUES (1, DEFAULT, '💩'), (2, DEFAULT, DEFAULT), (3, '?', NULL)"


# ------------------------------------------------------------------- tables


def tables(known: tuple[int, int]) -> Iterator[Statement]:
    """What tables can be besides their columns' types."""
    yield "CREATE DATABASE `tables`"
    yield "USE `tables`"
    yield "CREATE TABLE zero (id INT AUTO_INCREMENT PRIMARY KEY, v INT)"
    yield rows("zero", "0, 1", "1, 1", "-5, 1", "7, 1", "1000, 1")
    yield "DELETE FROM zero WHERE id = 1000"
    yield "CREATE TABLE counter (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 18446744073709551000"
    yield "CREATE TABLE duplicates (a INT, b TEXT)"
    yield rows("duplicates", *["1, 'same'"] * 5, *["NULL, NULL"] * 3, "2, ''", "2, NULL")
    yield "CREATE TABLE `empty` (id INT PRIMARY KEY, t TEXT) COMMENT 'no rows'"
    yield "CREATE TABLE `only generated` (a INT AS (1) STORED)"
    yield (
        "CREATE TABLE generated (id INT PRIMARY KEY, t VARCHAR(50), price DECIMAL(10,2), j JSON,"
        " upper_ VARCHAR(50) AS (UPPER(t)) VIRTUAL COMMENT 'v', gross DECIMAL(12,4) AS (price * 1.19) PERSISTENT,"
        " k VARCHAR(20) AS (JSON_VALUE(j, '$.\"a b\"')) STORED, d DATE AS (DATE '2024-02-29' + INTERVAL id DAY) VIRTUAL,"
        " quoted VARCHAR(60) AS (CONCAT(t, '''\"`\\\\', 'é')) STORED, UNIQUE (gross), KEY (upper_), KEY (k))"
    )
    yield "INSERT INTO generated (id, t, price, j) VALUES (1, 'it''s', 1.99, '{\"a b\": \"x\"}'), (2, NULL, NULL, NULL), (3, 'straße', 0, '{}')"
    yield "CREATE TABLE invisible (id INT PRIMARY KEY, seen INT, hidden INT INVISIBLE DEFAULT 5, `also hidden` TEXT INVISIBLE)"
    yield "INSERT INTO invisible (id, seen, hidden, `also hidden`) VALUES (1, 1, 7, 'x'), (2, 2, NULL, NULL)"
    yield "INSERT INTO invisible VALUES (3, 3)"
    yield (
        "CREATE TABLE checks (a INT CHECK (a > 0), b INT DEFAULT 5 CHECK (b <> 3 AND b < 10), t VARCHAR(9) CHECK (t <> 'it''s'),"
        f" CONSTRAINT {name(HOSTILE)} CHECK (a + b < 100), CONSTRAINT `é` CHECK (t NOT LIKE '%\\\\%'), PRIMARY KEY (a))"
    )
    yield rows("checks", "1, 2, 'x'", "2, NULL, NULL")
    yield "SET check_constraint_checks = 0"
    yield rows("checks", "-1, 3, 'violates'")
    yield "SET check_constraint_checks = 1"
    yield (
        "CREATE TABLE defaults (id INT NOT NULL DEFAULT (1 + 1), t TEXT DEFAULT CONCAT('it''s', CHAR(92), 'é💩'), u UUID DEFAULT UUID(), "
        "a INT DEFAULT (id * 2), ts TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), "
        "d DATETIME DEFAULT NULL ON UPDATE NOW(), b VARBINARY(9) DEFAULT X'00FF5C27', e VARCHAR(9) DEFAULT '', "
        "n VARCHAR(9) DEFAULT 'NULL', bt BIT(4) DEFAULT b'101', z DATE DEFAULT '0000-00-00', no_default INT NOT NULL, "
        "s VARCHAR(20) DEFAULT 'a\\nb\\\\', f FLOAT DEFAULT 0.1, en ENUM('x','y') DEFAULT 'y', q VARCHAR(9) DEFAULT '''', "
        "bl BLOB DEFAULT X'0027', j JSON DEFAULT '{}', cu VARCHAR(300) DEFAULT CURRENT_USER())"
    )
    yield "INSERT INTO defaults (no_default, u, ts, cu) VALUES (1, '123e4567-e89b-12d3-a456-426655440000', '2024-01-02 03:04:05.678', 'x')"
    yield f"CREATE TABLE commented (a INT COMMENT {text(HOSTILE_COMMENT)}, KEY k (a) COMMENT {text(HOSTILE_COMMENT)}) COMMENT {text(HOSTILE_COMMENT)}"
    yield "CREATE TABLE wide (" + ", ".join(f"c{number} VARCHAR(5)" for number in range(600)) + ") CHARACTER SET latin1"
    yield "INSERT INTO wide (c0, c599) VALUES ('first', 'last')"
    yield "CREATE TABLE periods (id INT, s DATE, e DATE, PERIOD FOR p (s, e), PRIMARY KEY (id, p WITHOUT OVERLAPS))"
    yield rows("periods", "1, '2024-01-01', '2024-02-01'", "1, '2024-02-01', '2024-03-01'")
    yield "CREATE TABLE many (id INT PRIMARY KEY, v VARCHAR(50)) SELECT seq AS id, CONCAT('row ', SHA1(seq)) AS v FROM seq_1_to_20000"


def keys(known: tuple[int, int]) -> Iterator[Statement]:
    """Primary keys and indexes of each kind."""
    yield "CREATE DATABASE `keys`"
    yield "USE `keys`"
    yield "CREATE TABLE composite (b INT, a VARCHAR(20), c DATE, v INT, PRIMARY KEY (a, c, b))"
    yield rows(
        "composite",
        "1, 'x', '2024-01-01', 1",
        "2, 'X ', '0000-00-00', 2",
        "-1, '', '2024-01-01', 3",
        "3, 'é', '2024-01-01', 4",
    )
    yield "CREATE TABLE worded (k VARCHAR(50) COLLATE utf8mb4_bin PRIMARY KEY, v INT)"
    yield rows(
        "worded", "'', 1", "'a', 2", "'A', 3", "'a\nb', 4", "'a''b', 5", "'💩', 6", "'a\\\\', 7", "'ä', 8", "'NULL', 9"
    )
    yield "CREATE TABLE raw (k VARBINARY(20) PRIMARY KEY, v INT)"
    yield rows("raw", "X'', 1", "X'00', 2", "X'0000', 3", "X'ff5c27', 4")
    yield "CREATE TABLE prefixed (t TEXT NOT NULL, b BLOB NOT NULL, PRIMARY KEY (t(10), b(5)), KEY (b(3)), UNIQUE long_ (t))"
    yield rows("prefixed", "'one', X'00'", "'two', X'0001'")
    yield "CREATE TABLE floats (k DOUBLE PRIMARY KEY, d FLOAT)"
    yield rows("floats", "0.1, 0.1", "0.30000000000000004, 1e-7", "-1.7976931348623157e308, 3.4e38")
    yield "CREATE TABLE moments (k DATETIME(6) PRIMARY KEY, t TIME(3), UNIQUE (t))"
    yield rows(
        "moments",
        "'0000-00-00 00:00:00', '-00:00:01.5'",
        "'2024-01-01 00:00:00.000001', NULL",
        "'2024-01-01 00:00:00.000002', NULL",
    )
    yield "CREATE TABLE bits (k BIT(20) PRIMARY KEY, e ENUM('z','a','m') NOT NULL, UNIQUE (e, k))"
    yield rows("bits", "0, 'z'", "1, 'a'", "1048575, 'm'")
    yield "CREATE TABLE `unique only` (a INT NOT NULL, b INT, UNIQUE (a), UNIQUE `null able` (b))"
    yield rows("`unique only`", "3, NULL", "1, NULL", "2, 1")
    yield (
        "CREATE TABLE indexed (id INT PRIMARY KEY, a INT, b VARCHAR(99), c TEXT, p POINT NOT NULL, KEY down (a DESC, b), KEY part_ (b(7)), "
        "KEY ignored_ (a) IGNORED, FULLTEXT KEY words (b, c) COMMENT 'it''s', SPATIAL KEY place (p), KEY hash_ (b) USING HASH, UNIQUE blob_ (c))"
    )
    yield "INSERT INTO indexed VALUES (1, 1, 'quick brown', 'fox jumps', ST_GeomFromText('POINT(1 2)')), (2, NULL, NULL, NULL, ST_GeomFromText('POINT(3 4)'))"
    yield "CREATE TABLE secondary (p INT, id INT AUTO_INCREMENT, PRIMARY KEY (p, id)) ENGINE=MyISAM"
    yield rows("secondary", "1, NULL", "1, NULL", "2, NULL", "2, NULL", "1, NULL")
    yield "CREATE TABLE `auto not primary` (a INT PRIMARY KEY, n INT UNSIGNED AUTO_INCREMENT, KEY (n)) AUTO_INCREMENT = 500"
    yield rows("`auto not primary`", "1, NULL", "2, 3", "3, NULL")


def cycles(known: tuple[int, int]) -> Iterator[Statement]:
    """Foreign keys around in a circle, to themselves, across databases, with names of their own."""
    yield "CREATE DATABASE `cycle a`"
    yield "CREATE DATABASE `cycle b`"
    yield "CREATE TABLE `cycle a`.hen (id INT PRIMARY KEY, egg INT) ENGINE=InnoDB"
    yield (
        "CREATE TABLE `cycle a`.egg (id INT PRIMARY KEY, hen INT, CONSTRAINT `laid ``by``` FOREIGN KEY (hen) REFERENCES hen (id) "
        "ON DELETE CASCADE ON UPDATE SET NULL)"
    )
    yield "ALTER TABLE `cycle a`.hen ADD CONSTRAINT `hatched from` FOREIGN KEY (egg) REFERENCES egg (id) ON DELETE SET NULL"
    yield rows("`cycle a`.hen", "1, NULL", "2, NULL")
    yield rows("`cycle a`.egg", "1, 1", "2, 2")
    yield "UPDATE `cycle a`.hen SET egg = 3 - id"
    yield "CREATE TABLE `cycle a`.tree (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES tree (id) ON DELETE RESTRICT)"
    yield rows("`cycle a`.tree", "5, 5", "1, 5", "9, NULL", "2, 9")
    yield "CREATE TABLE `cycle a`.abroad (id INT PRIMARY KEY, other INT)"
    yield "CREATE TABLE `cycle b`.abroad (id INT PRIMARY KEY, other INT, FOREIGN KEY (other) REFERENCES `cycle a`.abroad (id))"
    yield "ALTER TABLE `cycle a`.abroad ADD FOREIGN KEY (other) REFERENCES `cycle b`.abroad (id) ON UPDATE CASCADE"
    yield rows("`cycle a`.abroad", "1, NULL")
    yield rows("`cycle b`.abroad", "1, 1")
    yield "UPDATE `cycle a`.abroad SET other = 1"
    nasty = name(HOSTILE)
    yield f"CREATE TABLE `cycle b`.{nasty} ({nasty} VARCHAR(9) CHARACTER SET latin1, x INT, PRIMARY KEY ({nasty}, x))"
    yield (
        f"CREATE TABLE `cycle b`.`a child first` (a INT, b VARCHAR(9) CHARACTER SET latin1, CONSTRAINT {nasty} FOREIGN KEY (b, a) "
        f"REFERENCES {nasty} ({nasty}, x) ON DELETE NO ACTION ON UPDATE CASCADE)"
    )
    yield rows(f"`cycle b`.{nasty}", "'é', 1")
    yield rows("`cycle b`.`a child first`", "1, 'é'", "NULL, 'no parent'", "1, NULL")
    yield "SET foreign_key_checks = 0"
    yield "CREATE TABLE `cycle b`.orphans (id INT PRIMARY KEY, gone INT, FOREIGN KEY (gone) REFERENCES `cycle b`.abroad (id))"
    yield rows("`cycle b`.orphans", "1, 999")
    yield "CREATE TABLE `cycle b`.`no parent` (id INT PRIMARY KEY, gone INT, FOREIGN KEY (gone) REFERENCES `cycle b`.vanished (id))"
    yield rows("`cycle b`.`no parent`", "1, 1")


def partitions(known: tuple[int, int]) -> Iterator[Statement]:
    """Each way to split a table."""
    yield "CREATE DATABASE `partitions`"
    yield "USE `partitions`"
    made = {
        "ranged": "PARTITION BY RANGE (id) (PARTITION `low ``est` VALUES LESS THAN (10) COMMENT 'it''s', PARTITION rest VALUES LESS THAN MAXVALUE)",
        "columned": "PARTITION BY RANGE COLUMNS (id, v) (PARTITION p0 VALUES LESS THAN (5, 'm'), PARTITION p1 VALUES LESS THAN (MAXVALUE, MAXVALUE))",
        "listed": "PARTITION BY LIST (id) (PARTITION odd VALUES IN (1, 3, 5, 7, NULL), PARTITION other DEFAULT)",
        "hashed": "PARTITION BY LINEAR HASH (id) PARTITIONS 4",
        "keyed": "PARTITION BY KEY (id) PARTITIONS 3",
        "doubly": "PARTITION BY RANGE (id) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 (PARTITION a VALUES LESS THAN (10), PARTITION b VALUES LESS THAN (1000))",
        "named subs": "PARTITION BY RANGE (id) SUBPARTITION BY KEY (id) (PARTITION a VALUES LESS THAN (10) (SUBPARTITION `s 1`, SUBPARTITION s2), "
        "PARTITION b VALUES LESS THAN MAXVALUE (SUBPARTITION s3, SUBPARTITION `s,4`))",
    }
    for table, how in made.items():
        yield f"CREATE TABLE {name(table)} (id INT NOT NULL, v VARCHAR(9) NOT NULL, PRIMARY KEY (id, v)) {how}".replace(
            "PRIMARY KEY (id, v)", "PRIMARY KEY (id, v)" if table == "columned" else "PRIMARY KEY (id)"
        )
        yield rows(name(table), *(f"{number}, 'v{number}'" for number in (1, 2, 3, 9, 10, 11, 500)))
    yield "CREATE TABLE `listed words` (w VARCHAR(9)) PARTITION BY LIST COLUMNS (w) (PARTITION a VALUES IN ('é', 'it''s'), PARTITION b VALUES IN ('', NULL))"
    yield rows("`listed words`", "'é'", "'it''s'", "''", "NULL")
    yield "CREATE TABLE `partitioned Aria` (id INT PRIMARY KEY) ENGINE=Aria PARTITION BY HASH (id) PARTITIONS 2"
    yield rows("`partitioned Aria`", "1", "2", "3")


def engines(known: tuple[int, int]) -> Iterator[Statement]:
    """Tables that know no transaction, and options that engines take."""
    yield "CREATE DATABASE `engines`"
    yield "USE `engines`"
    options = {
        "myisam": "ENGINE=MyISAM PACK_KEYS=1 CHECKSUM=1 DELAY_KEY_WRITE=1 MIN_ROWS=10 MAX_ROWS=100000 AVG_ROW_LENGTH=50",
        "myisam fixed": "ENGINE=MyISAM ROW_FORMAT=FIXED",
        "aria": "ENGINE=Aria TRANSACTIONAL=1 PAGE_CHECKSUM=1",
        "aria crash": "ENGINE=Aria TRANSACTIONAL=0 ROW_FORMAT=DYNAMIC",
        "memory": "ENGINE=MEMORY",
        "csv": "ENGINE=CSV",
        "compressed": "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8",
        "dynamic": "ENGINE=InnoDB ROW_FORMAT=DYNAMIC STATS_PERSISTENT=1 STATS_AUTO_RECALC=0 STATS_SAMPLE_PAGES=30",
        "compact": "ENGINE=InnoDB ROW_FORMAT=COMPACT",
        "redundant": "ENGINE=InnoDB ROW_FORMAT=REDUNDANT",
        "page compressed": "ENGINE=InnoDB PAGE_COMPRESSED=1 PAGE_COMPRESSION_LEVEL=9",
    }
    for table, option in options.items():
        column = "VARCHAR(40)" if table in ("memory", "csv", "myisam fixed") else "TEXT"
        yield f"CREATE TABLE {name(table)} (id INT NOT NULL{'' if table == 'csv' else ' PRIMARY KEY'}, t {column} NOT NULL) {option} COMMENT {text(table)}"
        yield rows(name(table), *(f"{number}, {text(PLAIN[number])}" for number in range(20)))
    yield "CREATE TABLE `compressed columns` (id INT PRIMARY KEY, t TEXT COMPRESSED, b LONGBLOB COMPRESSED=zlib, v VARCHAR(200) COMPRESSED)"
    yield rows("`compressed columns`", f"1, REPEAT('é', 5000), REPEAT({blob(BYTES)}, 20), ''", "2, NULL, '', 'short'")
    yield "CREATE TABLE `merge` (id INT NOT NULL, t TEXT NOT NULL, KEY (id)) ENGINE=MERGE UNION=(`myisam 1`, `myisam 2`) INSERT_METHOD=LAST"
    for number in (1, 2):
        yield f"CREATE TABLE `myisam {number}` (id INT NOT NULL, t TEXT NOT NULL, KEY (id)) ENGINE=MyISAM"
        yield rows(f"`myisam {number}`", f"{number}, 'merged'")


def big(known: tuple[int, int]) -> Iterator[Statement]:
    """Rows about as long as a server takes in one packet; their literals are longer than that."""
    yield "CREATE DATABASE `big`"
    yield "CREATE TABLE big.one (id INT PRIMARY KEY, b LONGBLOB, t LONGTEXT CHARACTER SET utf8mb4)"
    yield f"INSERT INTO big.one VALUES (1, REPEAT({blob(BYTES)}, 32768), REPEAT('it''s\\\\ \n💩é', 524288))"
    yield "CREATE TABLE big.blob (id INT PRIMARY KEY, b LONGBLOB)"
    yield f"INSERT INTO big.blob VALUES (1, REPEAT({blob(bytes(128) + BYTES[128:])}, 65000)), (2, '')"


def sequences(known: tuple[int, int]) -> Iterator[Statement]:
    """Fresh, advanced, counting down, at their end."""
    yield "CREATE DATABASE `sequences`"
    yield "USE `sequences`"
    yield "CREATE SEQUENCE fresh"
    yield "CREATE SEQUENCE cycling START WITH 10 MINVALUE -5 MAXVALUE 20 INCREMENT BY 3 CACHE 5 CYCLE COMMENT 'it''s'"
    yield "DO " + ", ".join(["NEXTVAL(cycling)"] * 7)
    yield "CREATE SEQUENCE uncached START WITH 5 NOCACHE NOCYCLE"
    yield "DO NEXTVAL(uncached), NEXTVAL(uncached)"
    yield "CREATE SEQUENCE down START WITH -1 INCREMENT BY -2 MINVALUE -1000 MAXVALUE -1 CACHE 10"
    yield "DO NEXTVAL(down)"
    yield "CREATE SEQUENCE used_up START WITH 1 MAXVALUE 2 NOCACHE"
    yield "DO NEXTVAL(used_up), NEXTVAL(used_up)"
    yield "CREATE SEQUENCE placed CACHE 100 ENGINE=MyISAM"
    yield "DO SETVAL(placed, 12345)"
    yield f"CREATE SEQUENCE {name(HOSTILE)} COMMENT {text(HOSTILE_COMMENT)}"
    yield f"DO NEXTVAL({name(HOSTILE)})"
    yield f"CREATE TABLE uses (id BIGINT DEFAULT NEXTVAL({name(HOSTILE)}) PRIMARY KEY, n BIGINT DEFAULT (NEXT VALUE FOR sequences.placed), v INT)"
    yield "INSERT INTO uses (v) VALUES (1), (2)"
    if known >= (11, 5):
        yield "CREATE SEQUENCE large AS BIGINT UNSIGNED START WITH 18446744073709551000"
        yield "CREATE SEQUENCE small AS TINYINT INCREMENT BY 5 NOCACHE"


def history(known: tuple[int, int]) -> Iterator[Statement]:
    """System-versioned tables: what is now can be brought back, what was may be lost if it is named."""
    yield "CREATE DATABASE `history`"
    yield "USE `history`"
    yield "CREATE TABLE implicit (id INT PRIMARY KEY, v INT, w INT WITHOUT SYSTEM VERSIONING) WITH SYSTEM VERSIONING"
    yield (
        "CREATE TABLE explicit (id INT PRIMARY KEY, v INT, s TIMESTAMP(6) GENERATED ALWAYS AS ROW START, "
        "e TIMESTAMP(6) GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING"
    )
    for table, values in (("implicit (id, v, w)", ("1, 1, 1", "2, 2, 2")), ("explicit (id, v)", ("1, 1", "2, 2"))):
        yield rows(table, *values)
    yield (
        "CREATE TABLE partitioned (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING PARTITION BY SYSTEM_TIME LIMIT 1000"
        " (PARTITION p0 HISTORY, PARTITION p1 CURRENT)"
    )
    yield rows("partitioned", "1, 1", "2, 2")
    for second in (10, 20):
        yield f"SET timestamp = {1735689600 + second}"
        for table in ("implicit", "explicit", "partitioned"):
            yield f"UPDATE {table} SET v = v + 100 WHERE id = 1"
    yield "SET timestamp = 1735689650"
    yield "DELETE FROM implicit WHERE id = 2"


# ----------------------------------------------------------------- accounts

DEFINER = "'the owner'@'localhost'"
GONE = "'gone'@'nowhere.example'"
PARSEC_HASH = "P0:UmmDXvbCCFbCvGfa1KuB3Ddp:45XTYo89U94MXNBf3wOJsycfvK8piugGAKpAWuWCqfY"
PERSONS = (  # name, host, the rest of CREATE USER
    ("the owner", "localhost", f"IDENTIFIED BY PASSWORD '{PASSWORD_HASH}'"),
    ("app", "%", f"IDENTIFIED VIA mysql_native_password USING '{PASSWORD_HASH}'"),
    ("app", "10.%", "IDENTIFIED BY 'other'"),
    ("app", "192.168.0.0/255.255.0.0", ""),
    ("app", "localhost", "IDENTIFIED VIA unix_socket"),
    ("APP", "%", "IDENTIFIED BY ''"),
    ("app", "::1", "IDENTIFIED BY 'six'"),
    ("app", "ex_mple.org", "IDENTIFIED BY 'under'"),
    ("either", "localhost", f"IDENTIFIED VIA unix_socket OR mysql_native_password USING '{PASSWORD_HASH}'"),
    ("either as", "localhost", "IDENTIFIED VIA unix_socket AS 'backup''s'"),
    ("old", "localhost", "IDENTIFIED VIA mysql_old_password USING '5d2e19393cc5ef67'"),
    ("", "localhost", ""),
    ("", "%.example.org", "IDENTIFIED BY 'nobody'"),
    ("it's", "localhost", "REQUIRE SSL"),
    ('double"quote', "%", "REQUIRE X509"),
    ("back`tick", "%", "REQUIRE SUBJECT '/CN=it''s' AND ISSUER '/C=DE/CN=\"x\"' AND CIPHER 'AES'"),
    (
        "back\\slash",
        "%",
        "WITH MAX_QUERIES_PER_HOUR 10 MAX_UPDATES_PER_HOUR 20 MAX_CONNECTIONS_PER_HOUR 30 MAX_USER_CONNECTIONS 4",
    ),
    ("limited", "%", "WITH MAX_STATEMENT_TIME 1.5 MAX_USER_CONNECTIONS -1"),
    ("locked", "%", f"IDENTIFIED BY PASSWORD '{PASSWORD_HASH}' ACCOUNT LOCK"),
    ("expired", "%", f"IDENTIFIED BY PASSWORD '{PASSWORD_HASH}' PASSWORD EXPIRE"),
    ("expired never", "%", "IDENTIFIED BY 'x' PASSWORD EXPIRE NEVER ACCOUNT LOCK"),
    ("expires", "%", "IDENTIFIED BY 'x' REQUIRE SSL WITH MAX_USER_CONNECTIONS 2 PASSWORD EXPIRE INTERVAL 90 DAY"),
    ("new\nline", "%", "IDENTIFIED BY 'new\nline'"),
    ("ünï 日本", "%", "IDENTIFIED BY 'ünï 💩'"),
    (" leading space", "%", ""),
    ("%", "%", ""),
    ("a@b", "c.example", ""),
    ("x" * 128, "h" * 100 + ".example", ""),
    (HOSTILE, "%", "IDENTIFIED BY 'x'"),
    (ADMINISTRATOR, "localhost", f"IDENTIFIED BY PASSWORD '{PASSWORD_HASH}'"),
    ("proxied", "%", ""),
)
ROLES = ("reader", "writer", "nested", "it's a `role`", "rôle\n2", "empty role", "granted by all")


def person(user: str, host: str) -> str:
    return f"{text(user)}@{text(host)}"


def accounts(known: tuple[int, int]) -> Iterator[Statement]:
    """Users of each kind of password, requirement and limit; roles in roles."""
    yield "INSTALL SONAME 'auth_ed25519'"
    for user, host, how in PERSONS:
        yield f"CREATE USER {person(user, host)} {how}"
    yield "CREATE USER 'modern'@'%' IDENTIFIED VIA ed25519 USING PASSWORD('secret')"
    yield f"CREATE USER 'two ways'@'%' IDENTIFIED VIA ed25519 USING PASSWORD('a') OR mysql_native_password USING '{PASSWORD_HASH}'"
    if known >= (11, 6):
        yield "INSTALL SONAME 'auth_parsec'"
        yield f"CREATE USER 'newest'@'%' IDENTIFIED VIA parsec USING {text(PARSEC_HASH)}"
    for role in ROLES:
        yield f"CREATE ROLE {name(role)}"
    yield f"GRANT EXECUTE ON *.* TO {DEFINER}"
    yield f"GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON `triggers`.* TO {DEFINER}"
    yield f"CREATE ROLE `administered` WITH ADMIN {person('app', '%')}"


def programs(known: tuple[int, int]) -> Iterator[Statement]:
    """Procedures, functions and packages, as clients of different minds wrote them."""
    yield "CREATE DATABASE `code` CHARACTER SET latin1 COLLATE latin1_swedish_ci"
    yield "USE `code`"
    yield "CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, t TEXT CHARACTER SET utf8mb4)"
    yield (
        f"CREATE DEFINER={DEFINER} PROCEDURE plain (IN a INT, OUT b VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, INOUT `c ``d` DECIMAL(10,2) UNSIGNED)\n"
        "  MODIFIES SQL DATA SQL SECURITY INVOKER COMMENT 'it''s; $$ // é'\n"
        "BEGIN\n\n  -- a comment; with ' quote\n  # another \" one\n  /* and */ DECLARE x INT DEFAULT 1;\n\tSET b = 'a;b\\\\';   \n  INSERT INTO log (t) VALUES ('💩');\nEND"
    )
    yield f"CREATE DEFINER={DEFINER} FUNCTION plus (a INT, b BIGINT) RETURNS BIGINT DETERMINISTIC NO SQL RETURN a + b"
    yield "CREATE FUNCTION reads_view () RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM views.`a first`)"
    yield f"CREATE DEFINER={GONE} PROCEDURE orphan () SELECT 1"
    yield f"CREATE PROCEDURE {name(HOSTILE)} ({name('p' + HOSTILE)} TEXT) COMMENT {text(HOSTILE_COMMENT)} SELECT {text(HOSTILE_COMMENT)}, {name('p' + HOSTILE)}"
    yield "CREATE PROCEDURE `crlf` ()\r\nBEGIN\r\n  SELECT 'x\r\ny';\r\nEND"
    yield "CREATE PROCEDURE same_name () SELECT 'procedure'"
    yield "CREATE FUNCTION same_name () RETURNS INT RETURN 1"
    yield "CREATE AGGREGATE FUNCTION total (x INT) RETURNS INT BEGIN DECLARE s INT DEFAULT 0; DECLARE CONTINUE HANDLER FOR NOT FOUND RETURN s; LOOP FETCH GROUP NEXT ROW; SET s = s + x; END LOOP; END"
    yield "CREATE FUNCTION returns_enum (a ENUM('x,y','it''s')) RETURNS VARCHAR(20) CHARACTER SET gbk RETURN a"
    yield "CREATE DATABASE `code in utf16` CHARACTER SET utf16"
    yield "CREATE PROCEDURE `code in utf16`.p (t TEXT) SELECT t"
    yield "SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,IGNORE_SPACE'"
    yield 'CREATE PROCEDURE "ansi ""quoted""" () SELECT "t" || \'back\\\' FROM "log"'
    yield "SET sql_mode = 'NO_BACKSLASH_ESCAPES,TRADITIONAL'"
    yield "CREATE FUNCTION slash () RETURNS VARCHAR(9) COMMENT 'back\\' RETURN '\\'"
    yield "SET sql_mode = ''"
    yield "CREATE PROCEDURE lax () INSERT INTO log VALUES ('not a number', 1)"
    yield "SET sql_mode = 'ORACLE'"
    yield (
        f"CREATE DEFINER={DEFINER} PACKAGE tools COMMENT 'it''s' AS\n  FUNCTION twice (x INT) RETURN INT;\n  PROCEDURE say (t VARCHAR2);\nEND;"
    )
    yield (
        "CREATE PACKAGE BODY tools AS\n  hidden INT := 5;\n  FUNCTION twice (x INT) RETURN INT AS BEGIN RETURN x * 2; END;\n"
        "  PROCEDURE say (t VARCHAR2) AS BEGIN SELECT t || 'é'; END;\nBEGIN\n  hidden := 6;\nEND;"
    )
    yield "CREATE PACKAGE bodiless AS PROCEDURE never; END;"
    yield "CREATE PROCEDURE oracle_like (a IN OUT INT) AS b INT := 1; BEGIN a := a || b; END;"
    yield f"SET sql_mode = '{MODE}'"
    yield "SET NAMES latin1 COLLATE latin1_german2_ci"
    yield b"CREATE PROCEDURE from_latin1 () COMMENT 'caf\xe9' SELECT 'caf\xe9 \x80'"
    yield b"CREATE FUNCTION `fonction_\xe9` (`param\xe8tre` INT) RETURNS TEXT RETURN 'd\xe9j\xe0'"


def from_japan(known: tuple[int, int]) -> Iterator[Statement]:
    """What a client wrote in Shift-JIS, where the second byte of a letter may be a backslash."""
    yield "SET NAMES sjis COLLATE sjis_bin"
    yield b"CREATE PROCEDURE code.`\x95\x5c` () COMMENT '\x83\x5c' SELECT '\x95\x5c' AS `\x94\x5c`"
    yield b"CREATE VIEW views.`\x95\x5c` AS SELECT '\x95\x5c' AS `\x94\x5c`"
    yield b"CREATE EVENT events.`\x95\x5c` ON SCHEDULE EVERY 1 DAY DO SELECT '\x95\x5c'"
    yield b"CREATE TRIGGER triggers.`\x95\x5c` AFTER INSERT ON triggers.log FOR EACH ROW SET @j = '\x95\x5c'"


def views(known: tuple[int, int]) -> Iterator[Statement]:
    """Views on views, of others, across databases, with names that sort before what they need."""
    yield "CREATE DATABASE `views` COLLATE utf8mb4_bin"
    yield "USE `views`"
    yield "CREATE TABLE `z last` (id INT PRIMARY KEY, v VARCHAR(20), `it's ``a``` INT)"
    yield rows("`z last`", "1, 'one', 1", "2, 'two', 2")
    yield "CREATE VIEW `m middle` AS SELECT *, id * 2 AS `²` FROM `z last`"
    yield "CREATE VIEW `a first` AS SELECT * FROM `m middle` WHERE `²` > 1"
    yield "CREATE ALGORITHM=TEMPTABLE VIEW temptable AS SELECT COUNT(*) AS `COUNT(*)`, 'it''s\\\\' AS `c` FROM `z last` GROUP BY v"
    yield f"CREATE ALGORITHM=MERGE DEFINER={DEFINER} SQL SECURITY INVOKER VIEW merged AS SELECT id, v FROM `z last` WHERE id < 10 WITH LOCAL CHECK OPTION"
    yield "CREATE VIEW checked AS SELECT id FROM merged WHERE id > 0 WITH CASCADED CHECK OPTION"
    yield f"CREATE DEFINER={GONE} SQL SECURITY DEFINER VIEW orphan AS SELECT * FROM `z last`"
    yield "CREATE VIEW abroad AS SELECT a.id, b.price FROM `z last` a JOIN tables.generated b ON a.id = b.id"
    yield "CREATE VIEW functions AS SELECT code.plus(id, 1) AS p, code.same_name() AS s FROM `z last`"
    yield "CREATE VIEW literal AS SELECT '💩 é' AS emoji, _latin1 X'e9' AS l, X'00ff' AS raw, 1.10 AS d, 1e0/3 AS f, DATE '2024-02-29' AS dt, NULL AS n, 'a' COLLATE utf8mb4_turkish_ci AS t, _utf8mb4'x' = 'X' COLLATE utf8mb4_bin AS e"
    yield "CREATE VIEW `recursive` AS WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r"
    yield "CREATE VIEW unioned AS (SELECT id FROM `z last` ORDER BY id DESC LIMIT 1) UNION ALL (SELECT 7) EXCEPT SELECT 3"
    yield "CREATE VIEW windowed AS SELECT id, ROW_NUMBER() OVER (PARTITION BY v ORDER BY id) AS r FROM `z last`"
    yield "CREATE VIEW `from sequence` AS SELECT next_not_cached_value FROM sequences.fresh"
    yield f"CREATE VIEW {name(HOSTILE)} ({name(HOSTILE)}, `b`) AS SELECT {text(HOSTILE_COMMENT)}, id FROM `z last`"
    yield "CREATE VIEW who AS SELECT CURRENT_USER() AS u, DATABASE() AS d, NOW() AS n"
    yield "SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'"
    yield 'CREATE VIEW "ansi" AS SELECT "v" || \'x\' AS "q""q" FROM "z last"'
    yield f"SET sql_mode = '{MODE}'"
    yield "SET NAMES latin1 COLLATE latin1_german1_ci"
    yield b"CREATE VIEW `vue \xe9` AS SELECT 'caf\xe9' AS `caf\xe9`, v FROM `z last`"


def triggers(known: tuple[int, int]) -> Iterator[Statement]:
    """Triggers that would change what a restore loads, in an order, and of others."""
    yield "CREATE DATABASE `triggers`"
    yield "USE `triggers`"
    yield "CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, t TEXT)"
    yield "CREATE TABLE watched (id INT PRIMARY KEY, v INT)"
    for timing in ("BEFORE", "AFTER"):
        for event in ("INSERT", "UPDATE", "DELETE"):
            yield f"CREATE TRIGGER {timing}_{event} {timing} {event} ON watched FOR EACH ROW INSERT INTO log (t) VALUES ('{timing} {event}; é💩')"
    yield "CREATE TRIGGER z_second BEFORE INSERT ON watched FOR EACH ROW FOLLOWS BEFORE_INSERT SET NEW.v = NEW.v * 10"
    yield f"CREATE DEFINER={DEFINER} TRIGGER a_third BEFORE INSERT ON watched FOR EACH ROW FOLLOWS z_second BEGIN\n  -- comment;\n  SET NEW.v = NEW.v + 1;\nEND"
    yield f"CREATE DEFINER={GONE} TRIGGER orphan AFTER UPDATE ON log FOR EACH ROW SET @x = 1"
    yield "CREATE TRIGGER m_zeroth BEFORE INSERT ON watched FOR EACH ROW PRECEDES BEFORE_INSERT SET NEW.v = COALESCE(NEW.v, 0)"
    yield f"CREATE TABLE {name(HOSTILE)} (a INT)"
    yield f"CREATE TRIGGER {name(HOSTILE)} AFTER INSERT ON {name(HOSTILE)} FOR EACH ROW SET @x = {text(HOSTILE_COMMENT)}"
    yield rows(name(HOSTILE), "1")
    yield "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'"
    yield 'CREATE TRIGGER "ansi""" AFTER DELETE ON "log" FOR EACH ROW SET @y = \'\\\''
    yield f"SET sql_mode = '{MODE}'"
    yield rows("watched", "1, 1", "2, NULL", "3, 3")
    yield "UPDATE watched SET v = 7 WHERE id = 3"
    yield "DELETE FROM watched WHERE id = 2"
    yield "SET NAMES latin1"
    yield b"CREATE TRIGGER `d\xe9clencheur` BEFORE UPDATE ON log FOR EACH ROW SET NEW.t = 'caf\xe9'"


def events(known: tuple[int, int]) -> Iterator[Statement]:
    """Events that are on, off, once, and in another time zone."""
    yield "CREATE DATABASE `events`"
    yield "USE `events`"
    yield "CREATE EVENT every_day ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' ENDS '2031-01-01 00:00:00' DO SELECT 1"
    yield "CREATE EVENT started_now ON SCHEDULE EVERY '1:30' HOUR_MINUTE ON COMPLETION PRESERVE COMMENT 'it''s' DO BEGIN DO 1; -- é💩;\nEND"
    yield "CREATE EVENT off ON SCHEDULE EVERY 1 HOUR DISABLE DO SELECT 1"
    yield "CREATE EVENT off_here ON SCHEDULE EVERY 1 HOUR DISABLE ON SLAVE DO SELECT 1"
    yield f"CREATE DEFINER={DEFINER} EVENT once ON SCHEDULE AT '2037-01-01 00:00:00' ON COMPLETION PRESERVE DO SELECT 1"
    yield f"CREATE DEFINER={GONE} EVENT orphan ON SCHEDULE AT '2037-01-01 12:00:00' DO SELECT 1"
    yield f"CREATE EVENT {name(HOSTILE)} ON SCHEDULE EVERY 5 YEAR COMMENT {text(HOSTILE_COMMENT[:60])} DO SELECT {text(HOSTILE_COMMENT)}"
    yield "SET time_zone = '+05:30', sql_mode = 'ANSI_QUOTES'"
    yield 'CREATE EVENT "east" ON SCHEDULE EVERY 1 WEEK STARTS \'2030-01-01 00:00:00\' DO SELECT 1 AS "one"'
    yield "SET NAMES latin1"
    yield b"CREATE EVENT `\xe9v\xe9nement` ON SCHEDULE EVERY 1 MONTH STARTS '2030-03-31 02:30:00' DO SELECT 'caf\xe9'"


def servers(known: tuple[int, int]) -> Iterator[Statement]:
    """Foreign servers, which lie in a system table alone."""
    yield "CREATE SERVER `it's ``far``` FOREIGN DATA WRAPPER mysql OPTIONS (HOST '192.0.2.1', DATABASE 'a`b', USER 'it''s', PASSWORD 'pass', PORT 3307)"


def grants(known: tuple[int, int]) -> Iterator[Statement]:
    """Privileges at each level, to each kind of grantee."""
    app, owner, admin, hostile = (
        person(*who) for who in (("app", "%"), ("the owner", "localhost"), (ADMINISTRATOR, "localhost"), (HOSTILE, "%"))
    )
    yield f"GRANT ALL PRIVILEGES ON *.* TO {admin} WITH GRANT OPTION"
    yield f"GRANT SELECT, RELOAD, PROCESS, SHOW DATABASES, BINLOG MONITOR, CONNECTION ADMIN, READ ONLY ADMIN ON *.* TO {owner}"
    yield f"GRANT FILE, SUPER, CREATE USER ON *.* TO {person('locked', '%')} WITH GRANT OPTION"
    yield f"GRANT ALL PRIVILEGES ON `types`.* TO {app}"
    yield f"GRANT SELECT, INSERT ON `a\\_b`.* TO {app} WITH GRANT OPTION"
    yield f"GRANT SELECT ON `a_b`.* TO {app}"
    yield f"GRANT UPDATE ON `a%`.* TO {app}"
    yield f"GRANT SELECT ON `a\\%b`.* TO {app}"
    for word in ("a'b", "a``b", 'a"b', "a\nb", "日本語", "not yet there"):
        yield f"GRANT SELECT, EXECUTE, EVENT, TRIGGER, LOCK TABLES ON {name(word)}.* TO {hostile}"
    yield f"GRANT SELECT, INSERT (id), UPDATE (id, t) ON `tables`.generated TO {app}"
    yield f"GRANT SELECT ({name(HOSTILE)}), REFERENCES ({name(HOSTILE)}) ON {name(HOSTILE)}.{name(HOSTILE)} TO {hostile}"
    yield f"GRANT ALL PRIVILEGES ON `views`.`a first` TO {person('', 'localhost')} WITH GRANT OPTION"
    yield f"GRANT SELECT, INSERT ON sequences.fresh TO {app}"
    yield f"GRANT SELECT, CREATE ON `names`.`not yet there` TO {app}"
    yield f"GRANT SHOW VIEW, DELETE HISTORY ON history.implicit TO {person('ünï 日本', '%')}"
    yield f"GRANT EXECUTE ON PROCEDURE code.plain TO {app} WITH GRANT OPTION"
    yield f"GRANT EXECUTE, ALTER ROUTINE ON FUNCTION code.same_name TO {hostile}"
    yield f"GRANT EXECUTE ON PROCEDURE code.{name(HOSTILE)} TO {hostile}"
    yield "SET sql_mode = 'ORACLE'"
    yield f"GRANT EXECUTE ON PACKAGE code.tools TO {app}"
    yield f"GRANT EXECUTE ON PACKAGE BODY code.tools TO {app}"
    yield f"SET sql_mode = '{MODE}'"
    yield f"GRANT PROXY ON {person('proxied', '%')} TO {app} WITH GRANT OPTION"
    yield f"GRANT PROXY ON {person('proxied', '%')} TO {person('', '%.example.org')}"
    yield "GRANT SELECT ON `types`.* TO reader"
    yield "GRANT INSERT, DELETE ON `types`.`INT` TO writer WITH GRANT OPTION"
    yield f"GRANT SELECT (id) ON `tables`.generated TO {name(ROLES[3])}"
    yield f"GRANT EXECUTE ON FUNCTION code.plus TO {name(ROLES[4])}"
    yield "GRANT CREATE USER ON *.* TO reader"
    yield "GRANT reader TO nested"
    yield "GRANT writer TO nested"
    yield f"GRANT nested TO {app} WITH ADMIN OPTION"
    yield f"GRANT {name(ROLES[3])} TO {app}"
    yield f"GRANT {name(ROLES[4])} TO {hostile}"
    yield f"GRANT reader TO {owner}"
    yield f"SET DEFAULT ROLE nested FOR {app}"
    yield f"SET DEFAULT ROLE {name(ROLES[4])} FOR {hostile}"
    yield "GRANT SELECT ON `empty`.* TO PUBLIC"
    yield "GRANT `granted by all` TO PUBLIC"


def broken(known: tuple[int, int]) -> Iterator[Statement]:
    """What the server keeps, yet would not take again."""
    yield "CREATE DATABASE `broken`"
    yield "CREATE TABLE broken.base (id INT PRIMARY KEY)"
    yield "CREATE VIEW broken.`view of nothing` AS SELECT id FROM broken.base"
    yield "CREATE VIEW broken.`on a broken one` AS SELECT id FROM broken.`view of nothing`"
    yield "DROP TABLE broken.base"
