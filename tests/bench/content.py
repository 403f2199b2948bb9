"""Content of a database of any size, and two ways to change a hundredth of it: statements for each server. Pure.

Four tables of the same kind, so that two workers have work: a primary key, an index, numbers, dates, words, bytes and
some NULLs. Nothing depends on clock or chance; the words compress as text does, the digests not at all.
"""

from dataclasses import dataclass

TABLES = ("bookings", "invoices", "messages", "visits")
WORDS = ("garden", "the", "invoice", "of", "railway", "Zürich", "and", "yellow", "it's", "shipment")
LITERALS = ", ".join("'" + word.replace("'", "''") + "'" for word in WORDS)
LINE = 165  # bytes of a row in a dump, nearly


def rows_of(megabytes: int) -> int:
    """How many rows each table has where the dump has that size."""
    return megabytes * 1_000_000 // LINE // len(TABLES)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the servers say in different words: of the row with number n and a digest h in hexadecimal."""

    types: str
    digest: str
    word: str
    date: str
    weight: str
    source: str
    begin: str
    finish: str


MARIADB = Dialect(
    types="id INT UNSIGNED NOT NULL PRIMARY KEY, customer INT UNSIGNED NOT NULL, made DATETIME NOT NULL,"
    " amount DECIMAL(10, 2) NOT NULL, weight DOUBLE, name VARCHAR(60) NOT NULL, note TEXT,"
    " digest VARBINARY(20) NOT NULL, KEY customer (customer)",
    digest="UNHEX(h)",
    word=f"ELT(1 + ASCII(SUBSTR(h, {{}}, 1)) % 10, {LITERALS})",
    date="'2020-01-01' + INTERVAL n * 37 SECOND",
    weight="IF(n % 7, n / 97e0, NULL)",
    source="(SELECT seq AS n, MD5(CONCAT('{table}', seq)) AS h FROM seq_1_to_{rows}) AS source",
    begin="SET unique_checks = 0, foreign_key_checks = 0",
    finish="ANALYZE TABLE {table}",
)
POSTGRESQL = Dialect(
    types="id int NOT NULL, customer int NOT NULL, made timestamp NOT NULL,"
    " amount numeric(10, 2) NOT NULL, weight float8, name varchar(60) NOT NULL, note text, digest bytea NOT NULL",
    digest="decode(h, 'hex')",
    word=f"(ARRAY[{LITERALS}])[1 + ascii(substr(h, {{}}, 1)) % 10]",
    date="'2020-01-01'::timestamp + n * 37 * '1 second'::interval",
    weight="CASE WHEN n % 7 <> 0 THEN n / 97::float8 END",
    source="(SELECT n, md5('{table}' || n) AS h FROM generate_series(1, {rows}) AS n) AS source",
    begin="SET synchronous_commit = off",
    finish="ALTER TABLE {table} ADD PRIMARY KEY (id); CREATE INDEX ON {table} (customer); VACUUM ANALYZE {table}",
)


def fill(dialect: Dialect, rows: int) -> str:
    """Make and fill all tables in an empty database."""
    return ";\n".join([dialect.begin, *(_fill_table(dialect, table, rows) for table in TABLES), ""])


def fill_small(dialect: Dialect) -> str:
    """Make and fill the tables of a small database: eight with a hundred rows."""
    return ";\n".join([*(_fill_table(dialect, f"{name}_{number}", 100) for name in TABLES for number in (1, 2)), ""])


def _fill_table(dialect: Dialect, table: str, rows: int) -> str:
    words = [dialect.word.format(place) for place in range(1, 10)]
    name, note = (f"CONCAT_WS(' ', {', '.join(some)})" for some in (words[:2], [*words[2:], "SUBSTR(h, 20)"]))
    numbers = f"n, n % 1000 * 7919 % 100003, {dialect.date}, n * 31.0 % 1000003 / 100, {dialect.weight}"
    values = f"{numbers}, {name}, {note}, {dialect.digest}"
    source = dialect.source.format(table=table, rows=rows)
    finish = dialect.finish.format(table=table)
    return f"CREATE TABLE {table} ({dialect.types});\nINSERT INTO {table} SELECT {values} FROM {source};\n{finish}"


def change_a_range(rows: int) -> str:
    """Change a hundredth of all rows: those of one table with neighbouring keys."""
    first, count = rows // 2, rows * len(TABLES) // 100
    return f"{_change(TABLES[0])} WHERE id BETWEEN {first} AND {first + count - 1};\n"


def change_here_and_there() -> str:
    """Change every hundredth row."""
    return "".join(f"{_change(table)} WHERE id % 100 = 0;\n" for table in TABLES)


def _change(table: str) -> str:
    return f"UPDATE {table} SET amount = amount + 1, note = CONCAT(note, ' paid')"


def summary() -> str:
    """Ask for figures that tell whether all rows are there, and what is in them."""
    sums = "count(*), sum(id), sum(customer), sum(amount), sum(length(name)), sum(length(note)), sum(length(digest))"
    return "".join(f"SELECT {sums}, min(made), max(made), max(weight) FROM {table};\n" for table in TABLES)
