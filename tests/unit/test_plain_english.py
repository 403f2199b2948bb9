"""Plain English and one word for each thing: sentences, phrases and words of the documents and manual pages.

Reads prose only: code, tables of Markdown, headings and headwords of manual pages are no sentences.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

HOUSE = Path(__file__).parents[2]
PAGES = tuple(path.relative_to(HOUSE).as_posix() for path in sorted((HOUSE / "man").iterdir()))
DOCUMENTS = (*sorted(path.name for path in HOUSE.glob("*.md")), "hooks/README.md", *PAGES)
LONGEST = 25  # words in a sentence
OPENING = re.compile(r"\W*(what|whatever|whoever)\b.*[^?]$", re.IGNORECASE | re.DOTALL)
UNPLAIN = re.compile(
    r"(?<!-)\b((is|are|was|were|be) (told|named)|mend(s|ed|ing)?|reckon(s|ed|ing)?|by chance|"
    r"(go|goes|going|gone|went) on with)\b",
    re.IGNORECASE,
)
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of a name
CODE = "CODE"  # stands for a code span: one word of a sentence, whatever it holds
FONTS = re.compile(r"\.(B|I|BR|RB|IR|RI|BI|IB)\s+(.*)")
ESCAPES = re.compile(r"\\f\([A-Z]{2}|\\f[A-Z]|\\&|\\\((bu|ti)")


class Ban(NamedTuple):
    """A synonym that is not used, and the word that is."""

    synonym: str
    word: str


def prose(document: str) -> tuple[str, ...]:
    """The paragraphs of a document, each on one line; headings are paragraphs, code and Markdown tables are none."""
    text = (HOUSE / document).read_text()
    blocks = markdown(text) if document.endswith(".md") else manual(text)
    return tuple(" ".join(block.split()) for block in blocks if block.strip())


def markdown(text: str) -> Iterator[str]:
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(    |\|).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]+`", CODE, text)
    text = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", text)
    yield from re.split(r"\n\s*\n|\n(?=- |\d+\. |#)|(?<=\n)#+ .*\n", text)


def manual(text: str) -> Iterator[str]:
    """Paragraphs of a manual page: macros of structure end one, the headword below `.TP` is none, fonts are words."""
    text = re.sub(r"^\.EX$.*?^\.EE$", ".PP", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^\.TP\n.*$", ".PP", text, flags=re.MULTILINE)
    paragraph: list[str] = []
    for line in text.splitlines():
        if line.startswith(".") and not FONTS.match(line):
            yield " ".join(paragraph)
            paragraph = []
        else:
            paragraph.append(words(line))
    yield " ".join(paragraph)


def words(line: str) -> str:
    """A line of a manual page as it is read; what is set in bold or italics alone is code or a name."""
    line = ESCAPES.sub("", line).replace("\\-", "-").replace("\\e", "\\").replace("\\~", " ")
    if not (font := FONTS.fullmatch(line)):
        return line
    arguments = re.findall(r'"([^"]*)"|(\S+)', font[2])
    joint = " " if len(font[1]) == 1 else ""
    return joint.join(quoted or bare for quoted, bare in arguments)


def sentences(paragraph: str) -> list[str]:
    """Split after a full stop, a question mark or an exclamation mark, with what closes behind it."""
    return [each for each in re.split(r"(?<=[.?!])[)\"'*_]*\s+(?=\S)", paragraph) if each]


def count(sentence: str) -> int:
    return sum(any(map(str.isalnum, word)) for word in sentence.split())


def too_long(sentence: str) -> bool:
    return count(sentence) > LONGEST


def opens_badly(sentence: str) -> bool:
    return OPENING.fullmatch(sentence) is not None


def bans(place: str, glossary: str) -> tuple[Ban, ...]:
    """The synonyms that the glossary bans in `place`, which is `docs` or `names`."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in glossary.splitlines() if line[:1] == "|"]
    found = [row for row in rows if len(row) == 4 and row[2] in (place, "both")]
    return tuple(Ban(synonym.strip(), row[0]) for row in found for synonym in row[3].split(","))


def uses(ban: Ban, text: str) -> bool:
    return re.search(rf"(?<![-\w]){re.escape(ban.synonym)}(?![-\w])", text, re.IGNORECASE) is not None


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_sentence_is_long(document: str) -> None:
    assert [each for paragraph in prose(document) for each in sentences(paragraph) if too_long(each)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_sentence_begins_with_its_subject(document: str) -> None:
    assert [each for paragraph in prose(document) for each in sentences(paragraph) if opens_badly(each)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_phrases_are_plain(document: str) -> None:
    assert [found[0] for paragraph in prose(document) for found in UNPLAIN.finditer(paragraph)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_word_of_the_glossary_is_used_and_no_synonym(document: str) -> None:
    banned = bans("docs", (HOUSE / "GLOSSARY.md").read_text())
    assert len(banned) > 20
    assert [(ban, paragraph) for paragraph in prose(document) for ban in banned if uses(ban, paragraph)] == []


# ---------------------------------------------------------------- the checks themselves can fail

LONG = "A backup " + "of one more server " * 6 + "ends."


@pytest.mark.parametrize(
    ("text", "bad"),
    [(LONG, 1), (LONG.replace("one", "`one two three`"), 1), ("One. " * 40, 0), (f"    {LONG}", 0), (f"| {LONG} |", 0),
     (f"```\n{LONG}\n```", 0), (f"- {LONG}\n- {LONG}", 2), (f"## Heading\n{LONG}", 1)],
)  # fmt: skip
def test_long_sentence_of_markdown_is_found_in_prose_only(text: str, bad: int) -> None:
    assert sum(too_long(each) for block in markdown(text) for each in sentences(" ".join(block.split()))) == bad


@pytest.mark.parametrize(
    ("text", "bad"),
    [(LONG, 1), (f".PP\n.B tklb\n{LONG}", 1), (f".TP\n{LONG}\nShort.", 0), (f".EX\n{LONG}\n.EE", 0), (f".SS {LONG}", 0),
     (LONG.replace("of one", "of\n.BR one ,\n"), 1)],
)  # fmt: skip
def test_long_sentence_of_a_manual_page_is_found_in_prose_only(text: str, bad: int) -> None:
    assert sum(too_long(each) for block in manual(text) for each in sentences(" ".join(block.split()))) == bad


@pytest.mark.parametrize(
    ("sentence", "bad"),
    [("What it says counts.", True), ("Whoever has it reads.", True), ("What is it?", False), ("It says what.", False)],
)  # fmt: skip
def test_bad_beginning_is_found(sentence: str, bad: bool) -> None:
    assert opens_badly(sentence) == bad


@pytest.mark.parametrize("phrase", ["It is told.", "They are named", "tklb mends it", "as we reckon", "gone on with"])
def test_unplain_phrase_is_found(phrase: str) -> None:
    assert UNPLAIN.search(phrase)
    assert not UNPLAIN.search("run --mend; amend; a named file")


def test_banned_synonym_is_found_as_a_word_and_where_it_is_banned() -> None:
    rows = ("say | meaning | banned in | do not say", "---|---|---|---", "x | X. | docs | y z, w", "a | A. | names | b")
    banned = bans("docs", "\n".join(f"| {row} |" for row in rows))
    assert banned == (Ban("y z", "x"), Ban("w", "x"))
    assert uses(banned[0], "the Y z, here")
    assert not uses(banned[1], "--w wood")


@cache
def names() -> tuple[str, ...]:
    """`module: name` for every module and every name in it, the name as words parted by blanks."""
    found = set()
    for module in sorted((HOUSE / "tklb").rglob("*.py")):
        used = {module.stem}
        for node in ast.walk(ast.parse(module.read_text())):
            values = (getattr(node, field, None) for field in ("name", "id", "attr", "arg", "asname"))
            used |= {value for value in values if isinstance(value, str)}
        found |= {f"{module}: {' '.join(part.lower() for part in PART.findall(name))}" for name in used}
    return tuple(sorted(found))


@pytest.mark.parametrize("ban", bans("names", (HOUSE / "GLOSSARY.md").read_text()), ids=lambda ban: ban.synonym)
def test_no_name_has_a_banned_synonym(ban: Ban) -> None:
    assert [name for name in names() if uses(ban, name.split(": ")[1])] == []


def places(document: str) -> tuple[str, ...]:
    """The code spans of a document that begin with a room of the program: `storage/`, `commands/backup`.

    What follows a folder in parentheses is in it: `restore/` (select, decode).
    """
    text = (HOUSE / document).read_text()
    rooms = {path.name for path in (HOUSE / "tklb").iterdir() if path.is_dir()}
    inside = re.findall(r"`([a-z0-9_/]+/)` \(([a-z_]+(?:, [a-z_]+)*)\)", text)
    spans = [*re.findall(r"`([a-z0-9_./]+)`", text), *(top + name for top, some in inside for name in some.split(", "))]
    return tuple(span for span in spans if span.partition("/")[0] in rooms and "/" in span)


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md", "GLOSSARY.md"])
def test_rooms_and_files_that_a_document_names_exist(document: str) -> None:
    missing = [one for one in places(document) if not any((HOUSE / "tklb").glob(f"{one.rstrip('/')}*"))]
    assert places(document)
    assert missing == []
