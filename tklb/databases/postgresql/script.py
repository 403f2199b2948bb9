"""A script of definitions as pg_dump gives it, cut into statements, and these into entries: an object each.

A statement ends where the server's own grammar ends it: quotes, comments, parentheses and the bodies of SQL functions
are passed over whole (psqlscan.l), so that a comment inside a function's body is no header. Takes and gives values.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tklb.lazy_dataclass import dataclass

__all__ = ["Entry", "Statement", "cut_script", "find_indexed", "read_entries", "split_script"]

SKIPPED = rb"""--[^\n]* | '(?:[^']|'')*' | "(?:[^"]|"")*" | [Ee]'(?:[^'\\]|\\.|'')*'
           | (?P<dollar>\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$) .*? (?P=dollar)"""
_TOKEN = re.compile(
    rb"(?P<skip>"
    + SKIPPED
    + rb") | (?P<comment> /\*) | (?P<word> [A-Za-z_\x80-\xff][\w$\x80-\xff]*) | (?P<sign> [();])",
    re.DOTALL | re.VERBOSE,
)
_HEADER = re.compile(rb"^-- (?:Data for )?Name: (.*); Type: ([^;]*); Schema: (.*); Owner: (.*)$", re.MULTILINE)
_VERB = re.compile(rb"[A-Za-z]+(?:\s+SYSTEM\b)?", re.IGNORECASE)
_VERBS = frozenset({"SET", "SELECT", "CREATE", "ALTER", "COMMENT", "GRANT", "REVOKE", "SECURITY", "REFRESH", "RESET"})
_ROUTINE = re.compile(rb"CREATE\s+(OR\s+REPLACE\s+)?(FUNCTION|PROCEDURE)\b")
_SETTING = re.compile(rb"(?:SET\s+\w+\s*=|SELECT\s+pg_catalog\.set_config\()")
_CHANGES_OWNER = re.compile(rb"OWNER TO [^;]*;\s*\Z")
NOT_VALID = b" NOT VALID;"
END = b"--\n-- PostgreSQL database dump complete\n--\n"
# of section pre-data; unlisted kinds are left to pg_restore
_BEFORE = frozenset(
    (
        *("ACL", "AGGREGATE", "CAST", "COLLATION", "CONVERSION", "DEFAULT", "DOMAIN", "EXTENSION", "FOREIGN TABLE"),
        *("FUNCTION", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURE", "SCHEMA", "SEQUENCE", "SERVER"),
        *("SEQUENCE OWNED BY", "TABLE", "TABLE ATTACH", "TYPE", "VIEW", "MATERIALIZED VIEW", "SHELL TYPE"),
    )
)
_AFTER = frozenset(
    ("CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "INDEX", "INDEX ATTACH", "TRIGGER", "DEFAULT ACL")
)
_ABOUT_LAST = frozenset(("COMMENT", "SECURITY LABEL"))
_GRANTS = "ACL"
_LISTS = ("ACL", "DEFAULT ACL")
KEY = "CONSTRAINT"  # of one table: a primary, unique or excluding one
_QUOTED = rb'"(?:[^"]|"")*"'
_INDEXED = re.compile(
    rb"(?:ALTER TABLE ONLY (?P<key>%(name)s\.%(name)s)\n    ADD CONSTRAINT"
    rb"|CREATE (?:UNIQUE )?INDEX %(name)s ON (?P<index>%(name)s\.%(name)s) USING)" % {b"name": _QUOTED}
)
_KNOWN = 60  # of the text of a statement that no header is about


@dataclass(frozen=True, slots=True)
class Statement:
    """`text` is the statement with the comments before it; the others are from the last header before it.

    `schema` is the one that it is in, "" for none.
    """

    text: bytes
    name: str = ""
    schema: str = ""
    verb: str = ""  # its first word, or two of them
    kind: str = ""
    owner: str = ""  # "-" for none
    has_header: bool = False  # it is the first one of its header, or there is none

    @property
    def label(self) -> str:
        """Its object, as people write it."""
        return f"{self.kind} {self.full_name}".strip()

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name

    @property
    def evaluates(self) -> str:
        """What of the database's own the server may call for it, as the one who sends it: functions, domains or casts.

        Empty for none: the server itself makes indexes and fills views as their owner.
        """
        if self.kind in ("CHECK CONSTRAINT", "FK CONSTRAINT") and self.text.endswith(NOT_VALID):
            return ""
        if self.kind == "TABLE ATTACH" or (self.kind == "AGGREGATE" and b"INITCOND" in self.text.upper()):
            return "domains"  # in the bounds of a partition and in the first value of an aggregate
        return {"CHECK CONSTRAINT": "functions", "FK CONSTRAINT": "casts"}.get(self.kind, "")

    @property
    def needs(self) -> tuple[str, str, str]:
        """What it evaluates, for which owner, and the schema that it creates something in."""
        return self.evaluates, self.owner, self.schema if self.kind == "AGGREGATE" else ""

    @property
    def is_definition(self) -> bool:
        """Whether it is of the kinds that pg_dump writes. A COPY or DO could start a program on the server."""
        return self.verb in _VERBS

    @property
    def is_setting(self) -> bool:
        """Whether it only sets the session for those after it."""
        found = _TOKEN.search(self.text) if self.verb in ("SET", "SELECT") else None
        while found and found["skip"]:
            found = _TOKEN.search(self.text, found.end())
        return bool(found and _SETTING.match(self.text, found.start()))


@dataclass(frozen=True, slots=True)
class Entry:
    """The statements about one object: the first makes it, unless it only sets the session."""

    statements: tuple[Statement, ...]

    @property
    def first(self) -> Statement:
        return self.statements[0]

    @property
    def text(self) -> bytes:
        return b"".join(statement.text for statement in self.statements)

    @property
    def has_evaluation(self) -> bool:
        return any(statement.evaluates for statement in self.statements)

    @property
    def is_list(self) -> bool:
        """Whether each of its statements stands for itself."""
        return self.first.kind in _LISTS

    @property
    def is_event_trigger(self) -> bool:
        return self.first.kind == "EVENT TRIGGER" or (
            self.first.kind == "COMMENT" and self.first.name.startswith("EVENT TRIGGER ")
        )

    def cut(self) -> "tuple[Entry, ...]":
        """Smaller entries, the main one first, where it can be cut.

        An object comes with its owner or not at all: a function of the administrator's has other rights.
        """
        if self.is_list:
            return tuple(Entry(unit) for unit in _join_sessions(self.statements))
        main = [each for each in self.statements[1:] if _CHANGES_OWNER.search(each.text)]
        rest = [Entry((each,)) for each in self.statements[1:] if each not in main]
        return (Entry((self.first, *main)), *rest)

    def replace_text(self, text: bytes) -> "Entry":
        """This entry with another text in its first statement."""
        return Entry((replace(self.first, text=text), *self.statements[1:]))


def _join_sessions(statements: Sequence[Statement]) -> Iterator[tuple[Statement, ...]]:
    """What is between SET and RESET SESSION AUTHORIZATION belongs together."""
    unit: list[Statement] = []
    for statement in statements:
        unit.append(statement)
        if unit[0].verb != "SET" or statement.verb == "RESET":
            yield tuple(unit)
            unit = []
    if unit:
        yield tuple(unit)


def read_entries(script: bytes) -> Iterator[Entry]:
    """The entries of a script, in its order; one for each statement without a header."""
    unit: list[Statement] = []
    for statement in split_script(script):
        if unit and (statement.has_header or statement.is_setting or unit[0].is_setting):
            yield Entry(tuple(unit))
            unit = []
        unit.append(statement)
    if unit:
        yield Entry(tuple(unit))


def cut_script(script: bytes) -> tuple[bytes, bytes] | None:
    """The sections `pre-data` and `post-data` of a script, as pg_restore gives them; None where that is not sure.

    pg_dump writes grants after all other definitions, and a comment after what it is about.
    """
    (_, head), *units = _split_units(script.removesuffix(END))
    before, after = [head], [head]
    for kind, text in units:
        is_after = len(after) > 1 or kind in _AFTER
        if kind not in _BEFORE | _AFTER | _ABOUT_LAST or (is_after and kind in _BEFORE - {_GRANTS}):
            return None
        (after if is_after and kind != _GRANTS else before).append(text)
    return b"".join((*before, END)), b"".join((*after, END))


def _split_units(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The kind of each object, and what is said about it; the settings at the beginning have none."""
    kind, begin, place = "", 0, 0
    ahead: int | None = None  # where settings begin that are for the next object
    for statement in split_script(body):
        start = place + len(statement.text) - len(statement.text.lstrip(b"\n"))
        place += len(statement.text)
        if statement.kind and statement.has_header:
            cut = start if ahead is None else ahead
            yield kind, body[begin:cut]
            kind, begin = statement.kind, cut
        is_ahead = bool(kind) and not statement.kind
        ahead = (start if ahead is None else ahead) if is_ahead else None
    yield kind, body[begin:]


def find_indexed(entry: Entry) -> bytes:
    """The table that an entry makes a key or an index of, as the script names it; empty for other entries."""
    if entry.first.kind not in (KEY, "INDEX"):
        return b""
    found = _INDEXED.search(entry.first.text)
    return (found["key"] or found["index"]) if found else b""


def split_script(script: bytes) -> Iterator[Statement]:
    """Cut a script. The rest after the last semicolon is no statement where it is comments only."""
    begin, name, inside, kind, owner = 0, "", "", "", ""
    for first, end in _find_ends(script):
        headers = _HEADER.findall(script[begin:first])
        if headers:
            name, kind, schema, owner = (part.decode("utf-8", "backslashreplace") for part in headers[-1])
            inside = "" if schema == "-" else schema
        found = _VERB.match(script, first)
        verb = found[0].upper().decode() if found else ""
        text, known = script[begin:end], script[first:end][:_KNOWN].decode("utf-8", "backslashreplace")
        bare = Statement(text, known.removesuffix(";"), verb=verb, has_header=True)
        is_bare = not kind or bare.is_setting
        yield bare if is_bare else Statement(text, name, inside, verb, kind, owner, bool(headers))
        begin = end


def _find_ends(script: bytes) -> Iterator[tuple[int, int]]:
    """Where each statement's first word and its end are."""
    first, place, depth = -1, 0, _Depth()
    while found := _TOKEN.search(script, place):
        place = found.end()
        if found["comment"]:
            place = _find_comment_end(script, place)
        elif found["sign"] == b";" and depth.is_none():
            yield (first if first >= 0 else found.start()), place
            first, depth = -1, _Depth()
        elif found["word"] or found["sign"]:
            first = found.start() if first < 0 else first
            depth.note(found[0].upper(), script, first)


class _Depth:
    """How deep in parentheses and in the body of an SQL function a statement is."""

    def __init__(self) -> None:
        self._parentheses = self._blocks = self._words = 0
        self._is_routine = False

    def is_none(self) -> bool:
        return self._parentheses <= 0 and self._blocks <= 0

    def note(self, token: bytes, script: bytes, first: int) -> None:
        self._words += 1
        if token in b"()":
            self._parentheses += 1 if token == b"(" else -1
        elif self._words == 1:
            self._is_routine = bool(_ROUTINE.match(script, first))
        elif self._is_routine and self._parentheses == 0:
            self._note_block(token)

    def _note_block(self, word: bytes) -> None:
        if word == b"BEGIN" or (word == b"CASE" and self._blocks):
            self._blocks += 1
        elif word == b"END" and self._blocks:
            self._blocks -= 1


def _find_comment_end(script: bytes, place: int) -> int:
    depth = 1
    for sign in re.finditer(rb"/\*|\*/", script[place:]):
        depth += 1 if sign[0] == b"/*" else -1
        if not depth:
            return place + sign.end()
    return len(script)
