"""Weaker forms of definitions that the server refuses as they are: what rows can live without is left out, and named.

A constraint that rows do not hold is made NOT VALID: it holds for new rows. A table comes without those defaults,
checks, collations and generated columns that the server refuses. A restrictive policy that cannot be had shuts its
table instead. A dictionary comes without its stop words.

Takes a connection and an entry of a script; makes at most one object. Source: pg_dump.c, dumpTableSchema.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tklb.databases.postgresql.connection import ServerConnection, ServerError
from tklb.databases.postgresql.script import NOT_VALID, SKIPPED, Entry, Statement
from tklb.lazy_dataclass import dataclass

__all__ = ["Weaker", "weaken"]

Run = Callable[[Entry], ServerError | None]
_WORDS = re.compile(
    rb"(?P<skip>" + SKIPPED + rb") | (?P<word> [A-Za-z_\x80-\xff][\w$\x80-\xff]*) | (?P<sign> [(),;\[\]])",
    re.DOTALL | re.VERBOSE,
)
_TABLE = re.compile(rb"\s*CREATE\s+(?:UNLOGGED\s+|FOREIGN\s+)?TABLE\s+(?P<name>.*?)\s*\Z", re.DOTALL)
_BEGINS_CLAUSE = (b"DEFAULT", b"GENERATED", b"NOT", b"COLLATE")
_BEGINS_PREDICATE = (b"USING", b"WITH")


@dataclass(frozen=True, slots=True)
class Weaker:
    """`reports` say what the object lacks for good; `later` are entries that may bring the rest."""

    reports: tuple[str, ...] = ()
    later: tuple[Entry, ...] = ()


def weaken(connection: ServerConnection, entry: Entry, attempt: Run) -> Weaker | None:
    """Make the object of an entry in a weaker form; None where there is none that the server takes."""
    kind = entry.first.kind
    if kind in ("FK CONSTRAINT", "CHECK CONSTRAINT"):
        return _skip_validation(entry, attempt)
    if kind in ("TABLE", "FOREIGN TABLE"):
        return _TableTrial(connection, entry, attempt).make()
    if kind == "TEXT SEARCH DICTIONARY":
        return _drop_stop_words(entry, attempt)
    if kind == "TEXT SEARCH CONFIGURATION" and entry.first.verb == "ALTER":
        return _drop_dictionary(entry, attempt)
    if kind == "POLICY" and b" AS RESTRICTIVE " in entry.first.text:
        return _shut(entry, attempt)
    return None


def _skip_validation(entry: Entry, attempt: Run) -> Weaker | None:
    if entry.first.text.endswith(NOT_VALID):
        return None
    if attempt(entry.replace_text(entry.first.text.removesuffix(b";") + NOT_VALID)):
        return None
    return Weaker((f"{entry.first.kind} is NOT VALID here",))


def _shut(entry: Entry, attempt: Run) -> Weaker | None:
    text = entry.first.text
    places = [start for word, start, _, depth in _read_words(text) if depth == 0 and word in _BEGINS_PREDICATE]
    if not places:
        return None
    clause = b" WITH CHECK (false);" if b" FOR INSERT " in text[: places[0]] else b" USING (false);"
    if attempt(entry.replace_text(text[: places[0]].rstrip() + clause)):
        return None
    return Weaker(("POLICY cannot be made as it was, and lets nobody through",))


def _drop_stop_words(entry: Entry, attempt: Run) -> Weaker | None:
    text = entry.first.text
    words = list(_read_words(text))
    opening = next((index for index, (word, *_) in enumerate(words) if word == b"("), len(words) - 1)
    for begin, end in _list_items(words[opening:]):
        if text[begin:end].split(b"=")[0].strip().strip(b'"').lower() == b"stopwords":
            comma = begin - 1 if text[begin - 1 : begin] == b"," else begin
            shorter = entry.replace_text(text[:comma] + text[end:])
            return None if attempt(shorter) else Weaker(("TEXT SEARCH DICTIONARY has no stop words",))
    return None


def _drop_dictionary(entry: Entry, attempt: Run) -> Weaker | None:
    """A mapping without the one of its dictionaries that is not there."""
    text = entry.first.text
    start = next((end for word, _, end, _ in _read_words(text) if word == b"WITH"), 0)
    names = [name.strip() for name in text[start:].removesuffix(b";").split(b",")]
    if not start or len(names) < 2:
        return None
    for gone in names:
        rest = b", ".join(name for name in names if name != gone)
        if attempt(entry.replace_text(text[:start] + b" " + rest + b";")) is None:
            return Weaker((f"TEXT SEARCH CONFIGURATION does without {gone.decode('utf-8', 'backslashreplace')}",))
    return None


# ---------------------------------------------------------------- a table without some of its clauses


@dataclass(frozen=True, slots=True)
class _Clause:
    """A part of CREATE TABLE that rows can live without; `later` brings it afterwards where that is possible."""

    begin: int
    end: int
    column: str  # empty for a check
    text: bytes
    later: tuple[Entry, ...]

    @property
    def report(self) -> str:
        known = " ".join(self.text.decode("utf-8", "backslashreplace").split())
        return f"column {self.column} has no {known}"


class _TableTrial:
    """Finds out which clauses of a table the server refuses, and makes the table without those."""

    def __init__(self, connection: ServerConnection, entry: Entry, attempt: Run) -> None:
        self._connection, self._entry, self._attempt = connection, entry, attempt
        self._clauses = tuple(_list_clauses(entry.first))

    def make(self) -> Weaker | None:
        if not self._clauses or not self._is_taken(()):
            return None
        kept: tuple[_Clause, ...] = ()
        for clause in self._clauses:
            if self._is_taken((*kept, clause)):
                kept = (*kept, clause)
        gone = [clause for clause in self._clauses if clause not in kept]
        main, *rest = self._entry.cut()
        if self._attempt(main.replace_text(self._format(kept))):
            return None
        reports = tuple(clause.report for clause in gone if not clause.later)
        return Weaker(reports, (*rest, *(entry for clause in gone for entry in clause.later)))

    def _is_taken(self, kept: Sequence[_Clause]) -> bool:
        """Whether the server takes the table with these clauses; it is not made."""
        self._connection.run("BEGIN")
        try:
            self._connection.run(self._format(kept))
        except ServerError:
            return False
        finally:
            self._connection.run("ROLLBACK")
        return True

    def _format(self, kept: Sequence[_Clause]) -> bytes:
        text, begin, parts = self._entry.first.text, 0, []
        for clause in (one for one in self._clauses if one not in kept):
            parts.append(text[begin : clause.begin])
            begin = clause.end
        return b"".join((*parts, text[begin:]))


def _list_clauses(statement: Statement) -> Iterator[_Clause]:
    """The clauses of a CREATE TABLE, in its order: checks with the comma before them."""
    text = statement.text
    words = list(_read_words(text))
    opening = next((index for index, (word, *_) in enumerate(words) if word == b"("), None)
    table = _TABLE.match(_drop_comments(text[: words[opening][1]])) if opening is not None else None
    if table is None or opening is None:
        return
    for begin, end in _list_items(words[opening:]):
        inside = [word for word in words if begin <= word[1] < end and word[3] <= 1]
        if inside and inside[0][0] == b"CONSTRAINT":
            name = f"{statement.name} {_read_name(inside[1][0])}"
            yield _make_check(replace(statement, name=name), table["name"], begin, end)
        else:
            yield from _list_column_clauses(statement, table["name"], end, inside)


def _make_check(statement: Statement, table: bytes, begin: int, end: int) -> _Clause:
    text = statement.text[begin:end].strip()
    later = b"ALTER TABLE " + table + b" ADD " + text + b";"
    check = replace(statement, text=later, kind="CHECK CONSTRAINT", verb="ALTER")
    comma = begin - 1 if statement.text[begin - 1 : begin] == b"," else begin
    return _Clause(comma, end, "", text, (Entry((check,)),))


def _list_column_clauses(
    statement: Statement, table: bytes, end: int, words: Sequence[tuple[bytes, int, int, int]]
) -> Iterator[_Clause]:
    places = [start for word, start, _, depth in words if depth == 1 and word in _BEGINS_CLAUSE]
    if not places:
        return
    name = _read_name(words[0][0])
    for place, until in zip(places, [*places[1:], end], strict=True):
        clause = statement.text[place:until]
        if clause.startswith(b"NOT"):
            continue
        later: tuple[Entry, ...] = ()
        if clause.startswith(b"DEFAULT"):
            sets = b"ALTER TABLE ONLY " + table + b" ALTER COLUMN " + words[0][0] + b" SET " + clause.strip() + b";"
            later = (Entry((replace(statement, text=sets, kind=f"DEFAULT of {name}", verb="ALTER"),)),)
        yield _Clause(place, until, name, clause.strip(), later)


def _list_items(words: Sequence[tuple[bytes, int, int, int]]) -> Iterator[tuple[int, int]]:
    """Where the items between the first parentheses begin and end."""
    begin = words[0][2]
    for word, start, end, depth in words[1:]:
        if depth == 1 and word == b",":
            yield begin, start
            begin = end
        elif depth == 0 and word == b")":
            yield begin, start
            return


def _read_words(text: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """The words, quoted names and signs of a statement: each with its place and its depth in parentheses."""
    depth = 0
    for found in _WORDS.finditer(text):
        word = found[0].upper() if found["word"] or found[0].startswith(b"e'") else found[0]
        if word.startswith((b"--", b"'", b"E'", b"$")):
            continue
        depth -= word in (b")", b"]")
        yield word, found.start(), found.end(), depth
        depth += word in (b"(", b"[")


def _read_name(quoted: bytes) -> str:
    return quoted.strip(b'"').replace(b'""', b'"').decode("utf-8", "backslashreplace")


def _drop_comments(text: bytes) -> bytes:
    return re.sub(rb"^--[^\n]*\n", b"", text, flags=re.MULTILINE)
