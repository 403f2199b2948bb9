"""What a server keeps, yet shows otherwise: put right in the statements that it shows.

Characters beyond three bytes of UTF-8 stand in a table's statement as question marks where they are in a default or in
the members of an ENUM or SET; an event's statement has its head in UTF-8 and its body in the character set it was made
in. Takes a session and what the server said; gives what it should have said. A temporary table comes and goes.
"""

import re

from tklb.databases.mariadb.session import Session, decoded, quoted, text

_MEMBER = re.compile(r"'(?:[^']|'')*'")
_MEMBERS = quoted("tklb members")


def exact_column(session: Session, statement: bytes, address: str, name: str, shown: tuple[str, str]) -> bytes:
    """The statement of the table at `address`, with the type and default of a column as they are; `shown` is both."""
    kind, default = shown
    head, mark, tail = statement.partition(f"\n  {quoted(name)} ".encode("utf-8", "surrogateescape"))
    if "?" in kind:
        tail = tail.replace(_encoded(kind), _encoded(_members(session, address, name, kind)), 1)
    if "?" in default and default.startswith("'"):
        exact = session.value(
            f"SELECT HEX(CONVERT(DEFAULT(it.{quoted(name)}) USING utf8mb4))"
            f" FROM (SELECT 1) AS one LEFT JOIN {address} AS it ON FALSE"
        )
        line, end, rest = tail.partition(b"\n")
        wrong, right = (f" DEFAULT {value}" for value in (default, _literal(decoded(bytes.fromhex(exact)))))
        tail = line.replace(_encoded(wrong), _encoded(right), 1) + end + rest
    return head + mark + tail


def _members(session: Session, address: str, name: str, kind: str) -> str:
    """An ENUM or SET with its members as they are: asked of a copy of the column, one by one."""
    column = quoted(name)
    word, _, shown = kind.partition("(")
    exact = []
    session.run(f"CREATE TEMPORARY TABLE {_MEMBERS} SELECT {column} FROM {address} LIMIT 0")
    try:
        for number, _ in enumerate(_MEMBER.findall(shown)):
            session.run(f"INSERT INTO {_MEMBERS} ({column}) VALUES ({1 << number if word == 'set' else number + 1})")
            value = session.value(f"SELECT HEX(CONVERT({column} USING utf8mb4)) FROM {_MEMBERS}")
            session.run(f"DELETE FROM {_MEMBERS}")
            exact.append(_literal(decoded(bytes.fromhex(value))))
    finally:
        session.run(f"DROP TEMPORARY TABLE {_MEMBERS}")
    return f"{word}({','.join(exact)})"


def exact_event(session: Session, statement: bytes, database: str, name: str, charset: str) -> bytes:
    """The statement of an event, all of it in the character set it was made in."""
    where = f"db = {text(database)} AND name = {text(name)}"
    body = session.rows(f"SELECT body FROM mysql.event WHERE {where}") if charset[:4] != "utf8" else ()
    content = body[0][0] if body else None
    if not content or not statement.endswith(content):
        return statement
    head = statement.removesuffix(content)
    if head.isascii():
        return statement
    turned = session.rows(f"SELECT CONVERT(CONVERT(X'{head.hex()}' USING utf8mb4) USING {charset})")[0][0]
    return (turned or head) + content


def _literal(value: str) -> str:
    """A string as SHOW CREATE writes it."""
    for raw, escaped in (("\\", "\\\\"), ("'", "''"), ("\n", "\\n"), ("\r", "\\r"), ("\0", "\\0"), ("\x1a", "\\Z")):
        value = value.replace(raw, escaped)
    return f"'{value}'"


def _encoded(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
