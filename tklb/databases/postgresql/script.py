"""SQL scripts as pg_dump writes them: their statements one by one, and which object each is about. Pure.

A statement ends where the server's own grammar ends it: quotes, comments, parentheses and the bodies of SQL functions
are passed over whole (psqlscan.l), so that a comment inside a function's body is no header.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"""(?P<skip> --[^\n]* | '(?:[^']|'')*' | "(?:[^"]|"")*" | [Ee]'(?:[^'\\]|\\.|'')*'
           | (?P<dollar>\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$) .*? (?P=dollar) )
       | (?P<comment> /\*) | (?P<word> [A-Za-z_\x80-\xff][\w$\x80-\xff]*) | (?P<sign> [();])""",
    re.DOTALL | re.VERBOSE,
)
_HEADER = re.compile(rb"^-- (?:Data for )?Name: (.*); Type: ([^;]*); Schema: (.*); Owner: ", re.MULTILINE)
_VERB = re.compile(rb"[A-Za-z]+(?:\s+SYSTEM\b)?", re.IGNORECASE)
_VERBS = frozenset({"SET", "SELECT", "CREATE", "ALTER", "COMMENT", "GRANT", "REVOKE", "SECURITY", "REFRESH", "RESET"})
_ROUTINE = re.compile(rb"CREATE\s+(OR\s+REPLACE\s+)?(FUNCTION|PROCEDURE)\b")


@dataclass(frozen=True, slots=True)
class Statement:
    """`text` is the statement with the comments before it, `about` what the last header before it names.

    `schema` is the one that it is in, "" for none.
    """

    text: bytes
    about: str
    schema: str = ""
    verb: str = ""  # its first word, or two of them

    @property
    def is_definition(self) -> bool:
        """Whether it is of the kinds that pg_dump writes. A COPY or DO could start a program on the server."""
        return self.verb in _VERBS


def statements(script: bytes) -> Iterator[Statement]:
    """Cut a script. What follows the last semicolon is no statement where it is comments only."""
    begin, about, inside = 0, "the settings", ""
    for first, end in _ends(script):
        headers = _HEADER.findall(script[begin:first])
        if headers:
            name, kind, schema = (part.decode("utf-8", "backslashreplace") for part in headers[-1])
            inside = "" if schema == "-" else schema
            about = f"{kind} {schema}.{name}" if inside else f"{kind} {name}"
        verb = _VERB.match(script, first)
        yield Statement(script[begin:end], about, inside, verb[0].upper().decode() if verb else "")
        begin = end


def _ends(script: bytes) -> Iterator[tuple[int, int]]:
    """Where each statement's first word and its end are."""
    first, place, depth = -1, 0, _Depth()
    while found := _TOKEN.search(script, place):
        place = found.end()
        if found["comment"]:
            place = _comment_end(script, place)
        elif found["sign"] == b";" and depth.is_none():
            yield (first if first >= 0 else found.start()), place
            first, depth = -1, _Depth()
        elif found["word"] or found["sign"]:
            first = found.start() if first < 0 else first
            depth.note(found[0].upper(), script, first)


@dataclass(slots=True)
class _Depth:
    """How deep in parentheses and in the body of an SQL function a statement is."""

    parentheses: int = 0
    blocks: int = 0
    words: int = 0
    is_routine: bool = False

    def is_none(self) -> bool:
        return self.parentheses <= 0 and self.blocks <= 0

    def note(self, token: bytes, script: bytes, first: int) -> None:
        self.words += 1
        if token in b"()":
            self.parentheses += 1 if token == b"(" else -1
        elif self.words == 1:
            self.is_routine = bool(_ROUTINE.match(script, first))
        elif self.is_routine and self.parentheses == 0:
            self._note_block(token)

    def _note_block(self, word: bytes) -> None:
        if word == b"BEGIN" or (word == b"CASE" and self.blocks):
            self.blocks += 1
        elif word == b"END" and self.blocks:
            self.blocks -= 1


def _comment_end(script: bytes, place: int) -> int:
    depth = 1
    for sign in re.finditer(rb"/\*|\*/", script[place:]):
        depth += 1 if sign[0] == b"/*" else -1
        if not depth:
            return place + sign.end()
    return len(script)
